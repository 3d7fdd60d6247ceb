"""Requests to models."""

from __future__ import annotations

from dataclasses import dataclass

from aicn.domain.ids import PeerId, parse_peer_id
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take
from aicn.wire.v0 import fields


@dataclass(frozen=True, slots=True)
class Chat:
    """`POST /chat/completion`."""

    node_id: PeerId
    project: str
    model: str
    stream: bool
    body: bytes  # as sent, less `node_id` and `project`


def decode_chat(body: bytes) -> Chat:
    """A chat request. What is inside a message, and every parameter that does not route, is the model's business."""
    members, rest = take(body, "node_id", "project")
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
        node_id=parse_peer_id(members.get("node_id")),
        project=fields.name(members, "project"),
        model=fields.name(members, "model"),
        stream=bool(stream),
        body=rest,
    )
