"""Chats, texts that go on, and vectors of texts: what models answer to them is passed on byte for byte."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route, decoded
from aicn.gateway.openai.asking import respond
from aicn.node import Node
from aicn.wire.openai import requests as wire


async def chat(node: Node) -> Response:
    """A chat, plain or streamed, with a model of whichever node has it."""
    return await respond(node, await decoded(node, wire.decode_chat))


async def completion(node: Node) -> Response:
    """A text that goes on, plain or streamed: OpenAI's older call."""
    return await respond(node, await decoded(node, wire.decode_completion))


async def embedding(node: Node) -> Response:
    """The vectors of texts."""
    return await respond(node, await decoded(node, wire.decode_embedding))


ROUTES = (
    Route("POST", "/chat/completions", chat),
    Route("POST", "/completions", completion),
    Route("POST", "/embeddings", embedding),
)
