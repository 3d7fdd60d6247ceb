"""Server-sent events (WHATWG HTML, 9.2) as model endpoints stream them: cutting at event boundaries, never re-encoding.

An OpenAI stream is events of one `data:` line, ended by `data: [DONE]`. A boundary is an empty line: `\\n\\n`, `\\r\\n\\r\\n` or `\\r\\r`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aicn.domain.inference import Usage

_BOUNDARIES = (b"\n\n", b"\n\r\n", b"\r\r")  # "\r\n\r\n" ends in the second
_SEAM = 2  # bytes of the longest boundary that a read can end in the middle of
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DATA_LINE = re.compile(rb"^data:[ ]?(.*?)$", re.MULTILINE)
_DONE = re.compile(rb"(?:^|[\r\n])data:[ ]?\[DONE\][ ]*[\r\n]+")
# A quote inside of JSON text is escaped, so these match keys only. `null`, which most chunks say, does not match.
_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class EventCutter:
    """Cuts a stream, as it arrives, at event boundaries, and remembers where it said how it ended.

    What comes out is what went in, byte for byte, up to and with `[DONE]`; what follows that is dropped. An event is held until it
    is complete, unless it grows over `limit` bytes: then its beginning is passed on in parts, and cutting goes on at its end.
    """

    def __init__(self, limit: int = 2**20) -> None:
        self.done = False  # the stream said `data: [DONE]`; nothing comes out after it
        self._limit = limit  # bytes held of one event; a token is some hundred
        self._held = bytearray()  # of an event that is not complete yet
        self._finish_piece = b""  # the last pieces that named them, parsed only when asked
        self._usage_piece = b""

    def feed(self, data: bytes) -> bytes:
        """All events that are complete with `data`, in one piece; b"" when none is."""
        if self.done:
            return b""
        if self._held or not data.endswith(b"\n\n"):  # else: whole events, the usual read
            data = self._cut(data)
        if b"[DONE]" in data and (mark := _DONE.search(data)) is not None:
            self.done = True
            data = data[: mark.end()]
        if _FINISH_REASON.search(data):
            self._finish_piece = data
        if b'"usage"' in data and _USAGE.search(data):
            self._usage_piece = data
        return data

    def _cut(self, data: bytes) -> bytes:
        held = self._held
        fresh = max(0, len(held) - _SEAM)  # what lies before was searched already
        held += data
        end = max(at + len(mark) if (at := held.rfind(mark, fresh)) >= 0 else 0 for mark in _BOUNDARIES)
        if not end and len(held) > self._limit:
            end = len(held) - _SEAM  # a boundary that is there in half must still be found
        piece = bytes(held[:end])
        del held[:end]
        return piece

    @property
    def finish_reason(self) -> str:
        """Of the first choice that named one last; empty when none did."""
        for event in _objects(self._finish_piece):
            match event:
                case {"choices": [{"finish_reason": str(reason)}, *_]}:
                    return reason
        return ""

    @property
    def usage(self) -> Usage | None:
        """The token counts named last; None when there were none."""
        for event in _objects(self._usage_piece):
            if (usage := parse_usage(event.get("usage"))) is not None:
                return usage
        return None


def parse_usage(counts: object) -> Usage | None:
    """The `usage` object of an OpenAI answer; counts that are missing or no counts are 0. None when it is no object."""
    if not isinstance(counts, dict):
        return None
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    values = (counts.get(name) for name in names)
    return Usage(*(value if type(value) is int and 0 <= value < 2**63 else 0 for value in values))


def iter_data(piece: bytes) -> Iterator[bytes]:
    """The data of each event in a piece of whole events (as `EventCutter.feed` gives them), for clients."""
    for event in _EVENT_END.split(piece):
        lines = _DATA_LINE.findall(event.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        if lines:
            yield b"\n".join(lines)


def encode_error_event(error: Mapping[str, object]) -> bytes:
    """The event that ends a broken stream in place of `[DONE]`: `data: {"error": …}`."""
    return b"data: " + json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _objects(piece: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among the events of a piece, the last one first."""
    for data in reversed(list(iter_data(piece))):
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
