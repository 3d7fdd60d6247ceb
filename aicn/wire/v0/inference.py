"""Requests to models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.wire.asked import check_input, check_messages, streamed
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
    check_input(members)
    return Embed(
        node_id=parse_peer_id(members.get("node_id")),
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        body=rest,
    )


def _chat(members: dict[str, Any], rest: bytes) -> Chat:
    """What is inside a message, and every parameter that does not route, is the model's business."""
    check_messages(members)
    stream = streamed(members)
    return Chat(
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        stream=stream,
        body=rest,
    )
