"""`/chat-proxy/0.0.1`, our worker to our requester: whatever the body, in whatever pieces it is written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.inference import Head
from aicn.errors import AnswerBroken, ProtocolViolation
from aicn.wire.legacy.chat_proxy import Requester, Worker


def read(requester: Requester, data: bytes, step: int) -> list[Head | bytes | None]:
    """All that comes of the bytes, and of the end of the stream if they were not enough."""
    out: list[Head | bytes | None] = []
    for at in range(0, len(data), step):
        out += requester.feed(data[at : at + step])
    return out if None in out else out + requester.feed(b"")


@given(
    body=st.binary(max_size=200),
    pieces=st.lists(st.binary(max_size=100), max_size=6),
    length=st.booleans(),
    steps=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    cut=st.integers(1, 10_000),
)
def test_exchanges(body: bytes, pieces: list[bytes], length: bool, steps: tuple[int, int], cut: int) -> None:
    requester, worker = Requester(), Worker(body_bytes=200)
    asked = requester.request("P", "M", body, stream=False)
    taken = [worker.feed(asked[at : at + steps[0]]) for at in range(0, len(asked), steps[0])]
    assert taken[-1]
    assert worker.body == body
    whole = b"".join(pieces)
    headers = [(b"x-request-id", b"1")] + ([(b"content-length", b"%d" % len(whole))] if length else [])
    answer = worker.head(Head(200, "OK", tuple(headers))) + b"".join(map(worker.data, pieces)) + worker.end()
    head, *said, end = read(requester, answer, steps[1])
    assert isinstance(head, Head)
    assert (head.status, head.get(b"x-request-id"), end) == (200, "1", None)
    assert b"".join(part for part in said if isinstance(part, bytes)) == whole
    broken = Requester()
    broken.request("P", "M", body, stream=False)
    with pytest.raises((AnswerBroken, ProtocolViolation)):
        read(broken, answer[: -1 - cut % len(answer)], steps[1])
