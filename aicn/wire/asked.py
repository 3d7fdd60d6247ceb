"""Members that requests to models have in every dialect of ours. What is inside them is the model's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aicn.errors import InvalidRequest


def check_messages(members: Mapping[str, Any]) -> None:
    """InvalidRequest unless there are messages to answer."""
    messages = members.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages: a list of at least one message is needed")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"messages[{i}]: an object is needed")


def check_input(members: Mapping[str, Any]) -> None:
    """InvalidRequest unless there is something to embed: a text, texts, or lists of tokens."""
    texts = members.get("input")
    if not (isinstance(texts, str) and texts) and not (isinstance(texts, list) and texts and [] not in texts):
        raise InvalidRequest("input: a text, or a list of texts or of tokens is needed")


def streamed(members: Mapping[str, Any]) -> bool:
    """Whether the answer is wanted as server-sent events. InvalidRequest."""
    stream = members.get("stream")
    if not isinstance(stream, bool | None):
        raise InvalidRequest("stream: true or false is needed")
    return bool(stream)
