"""Requests to models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat, whoever shall answer it."""

    project: str
    model: str
    stream: bool
    body: bytes  # as sent, less `node_id` and `project`


def decode_chat(body: bytes) -> tuple[PeerId, Chat]:
    """`POST /chat/completion`: who shall answer, and what."""
    members, rest = take(body, "node_id", "project")
    chat = _chat(members, rest)
    return parse_peer_id(members.get("node_id")), chat


def decode_project_chat(body: bytes) -> Chat:
    """`POST /chat/completion/proxy`: a `node_id` says nothing there, and does not travel."""
    return _chat(*take(body, "node_id", "project"))


@dataclass(frozen=True, slots=True)
class Embed:
    """`POST /embedding` (ours)."""

    node_id: PeerId
    project: str
    model: str
    body: bytes  # as sent, less `node_id` and `project`


def decode_embed(body: bytes) -> Embed:
    """What is to be embedded is a text, texts, or lists of tokens; which of them, and every other parameter, is the model's business."""
    members, rest = take(body, "node_id", "project")
    texts = members.get("input")
    if not (isinstance(texts, str) and texts) and not (isinstance(texts, list) and texts and [] not in texts):
        raise InvalidRequest("input: a text, or a list of texts or of tokens is needed")
    return Embed(
        node_id=parse_peer_id(members.get("node_id")),
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        body=rest,
    )


def _chat(members: dict[str, Any], rest: bytes) -> Chat:
    """What is inside a message, and every parameter that does not route, is the model's business."""
    messages = members.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: a list of at least one message is needed")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"messages[{i}]: an object is needed")
    stream = members.get("stream")
    if not isinstance(stream, bool | None):
        raise InvalidRequest("stream: true or false is needed")
    return Chat(
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        stream=bool(stream),
        body=rest,
    )
