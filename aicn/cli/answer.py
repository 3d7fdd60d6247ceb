"""A streamed chat answer as it is read: server-sent events → pieces of text, and what is worth telling afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aicn.cli.client import ApiError, refusal

_LARGEST_EVENT = 32 * 2**20  # bytes; the node's own limit for an answer


@dataclass
class Answer:
    """One answer; `read` fills it."""

    asked_at: float = field(default_factory=time.monotonic)  # seconds, as all times here
    first_at: float | None = None
    last_at: float | None = None
    pieces: list[str] = field(default_factory=list)
    counted: int | None = None  # tokens as the endpoint counts them, when it says so
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        """As counted by the endpoint; else the pieces, which are one token each with most endpoints."""
        return self.counted if self.counted is not None else len(self.pieces)

    @property
    def first_token_ms(self) -> int | None:
        return None if self.first_at is None else round((self.first_at - self.asked_at) * 1000)

    @property
    def tokens_per_s(self) -> float | None:
        """Once the first token was there; None for an answer too short to tell."""
        if self.first_at is None or self.last_at is None or self.tokens < 2 or self.last_at <= self.first_at:
            return None
        return round((self.tokens - 1) / (self.last_at - self.first_at), 1)

    def read(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """The pieces of text as they come; ApiError when the answer breaks off: an error event, or an end without [DONE]."""
        for name, data in events(chunks):
            if data == "[DONE]":
                return
            event = _parsed(data)
            if name == "error" or event.get("error") or (event.get("code") and "choices" not in event):
                raise ApiError(f"the answer broke off: {_reason(event)}")
            if piece := self._take(event):
                self.last_at = time.monotonic()
                self.first_at = self.first_at or self.last_at
                self.pieces.append(piece)
                yield piece
        raise ApiError("the answer broke off: the connection ended before it was complete")

    def _take(self, event: dict[str, Any]) -> str:
        usage = event.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("completion_tokens"), int):
            self.counted = usage["completion_tokens"]
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        return content if isinstance(content, str) else ""

    def summary(self) -> str:
        """`14 tokens, first after 35 ms, 51.2 tokens/s`."""
        parts = [f"{self.tokens} tokens"]
        if self.first_token_ms is not None:
            parts.append(f"first after {self.first_token_ms} ms")
        if self.tokens_per_s is not None:
            parts.append(f"{self.tokens_per_s} tokens/s")
        if self.finish_reason == "length":
            parts.append("cut off at the length limit")
        return ", ".join(parts)


def events(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """(event name or "message", data) of a server-sent event stream however it is cut into chunks.

    Lines end in LF or CRLF only: str.splitlines would also cut at U+2028, which JSON may hold as it is.
    """
    buffer, name, data = b"", "message", list[str]()
    for chunk in chunks:
        *lines, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > _LARGEST_EVENT:
            raise ApiError("the answer broke off: an event without an end")
        for line in lines:
            text = line.decode("utf-8", "replace").removesuffix("\r")
            if not text:
                if data:
                    yield name, "\n".join(data)
                name, data = "message", []
            key, _, value = text.partition(":")
            if key == "data":
                data.append(value.removeprefix(" "))
            elif key == "event":
                name = value.removeprefix(" ")


def _parsed(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ApiError("the answer broke off: an event that is no JSON object")
    return event


def _reason(event: dict[str, Any]) -> str:
    error = event.get("error")
    inner = error if isinstance(error, dict) else {"message": error} if isinstance(error, str) else {}
    return refusal({"code": inner.get("code"), "message": inner.get("message")} | {k: v for k, v in event.items() if v})
