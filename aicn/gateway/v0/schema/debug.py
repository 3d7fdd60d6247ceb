"""What a node would do."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aicn.gateway.v0.schema.shapes import EXAMPLE_ID, Name, Ok, Operation, PeerId, Request, Told
from aicn.wire.v0.routing import LONGEST_MODEL


class Routed(Request):
    """What is asked for."""

    model: str = Field(min_length=1, max_length=LONGEST_MODEL, description="`model`, or `project/model` as in `/v1`.")
    project: Name | None = Field(default=None, description="With it `model` is the name within the project.")
    type: Literal[0, 1, 2, 3] = Field(default=0, description="As in register: chat, image, image edit, embedding.")


class Candidate(Told):
    """A node that offers the model, and what is thought of it."""

    node_id: PeerId
    rank: int | None = Field(description="0: asked first; null: not asked at all.")
    seconds: float = Field(ge=0, description="What an answer should take, as far as is known.")
    reason: str = Field(description="Why it has this place, in a few words.")


class Way(Told):
    """All candidates (64 at most), the first first."""

    project: str
    model: str
    nodes: list[Candidate]


class Explained(Ok):
    """Who would be asked."""

    data: Way


_NODES = [
    {"node_id": EXAMPLE_ID, "rank": 0, "seconds": 1.0412, "reason": "better of two"},
    {
        "node_id": "16Uiu2HAmRTpigc7jAbsLndB2xDEBMAXLb887SBEFhfdJeEJNtqRM",
        "rank": 1,
        "seconds": 2.6,
        "reason": "failed 2 s ago, set aside for 1.9 s",
    },
]
OPERATIONS = (
    Operation(
        "GET",
        "/api/v0/debug/route",
        "Models",
        Explained,
        errors=("invalid_request", "unknown_model", "no_node"),
        query=Routed,
        example={
            "answer": {
                "code": 0,
                "message": "ok",
                "data": {"project": "SuperImage", "model": "Llama3-8B", "nodes": _NODES},
            }
        },
    ),
)
