"""Embeddings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aicn.gateway.v0.schema.chat import Signed
from aicn.gateway.v0.schema.shapes import BODY_ERRORS, EXAMPLE_ID, MODEL_ERRORS, Name, Ok, Operation, Passed, PeerId


class Embed(Signed):
    """Texts for an embedding model of a named node. All other members of the OpenAI embeddings API go on to the model."""

    node_id: PeerId
    project: Name
    model: Name
    input: Any = Field(description="A text, a list of texts, or tokens.")


class Embedding(Passed):
    """The vector of one text."""

    object: str = "embedding"
    index: int = 0
    embedding: list[float] | str = Field(description="Numbers; base64 when `encoding_format` asked for it.")


class Embeddings(Passed):
    """What the model's endpoint answered, byte for byte."""

    object: str = "list"
    data: list[Embedding] = Field(min_length=1)
    model: str = ""
    usage: dict[str, Any] | None = None


class EmbeddingAnswer(Ok):
    """The vectors."""

    data: Embeddings


_EXAMPLE = {
    "request": {"node_id": EXAMPLE_ID, "project": "DecentralGPT", "model": "bge-m3", "input": ["Hello", "Goodbye"]},
    "answer": {
        "code": 0,
        "message": "ok",
        "data": {
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093, 0.0157]},
                {"object": "embedding", "index": 1, "embedding": [-0.0028, 0.0041, 0.0112]},
            ],
            "model": "bge-m3",
            "usage": {"prompt_tokens": 2, "total_tokens": 2},
        },
    },
}
_ERRORS = (*BODY_ERRORS, *MODEL_ERRORS, "forbidden")
OPERATIONS = (Operation("POST", "/api/v0/embedding", "Models", EmbeddingAnswer, Embed, _ERRORS, example=_EXAMPLE),)
