"""Reading a request's body: bounded in size and time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock
from werkzeug.datastructures import Headers

from aicn.errors import Busy, SlowBody, TooLarge
from aicn.gateway.clients import LITTLE, Bodies
from aicn.gateway.exchange import BODY_S, GatewayRequest


async def no_push(path: str, headers: Headers) -> None: ...


def request_of(*pieces: bytes, length: str = "", every_s: float = 0, room: int = 10**9) -> GatewayRequest:
    """A request whose body comes in `pieces`, one each `every_s` seconds, on a gateway with `room` bytes for bodies."""
    left = list(pieces)

    async def receive() -> Any:
        await trio.sleep(every_s)
        piece = left.pop(0) if left else b""
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    headers = Headers({"Content-Length": length} if length else {})
    scope: Any = {"type": "http", "server": ("localhost", 1)}
    request = GatewayRequest("POST", "http", "/", b"", headers, "", "1.1", scope, send_push_promise=no_push)
    request.receive = receive
    request.bodies = Bodies(room)
    return request


async def test_a_body_in_pieces() -> None:
    assert await request_of(b"ab", b"", b"cd", b"").read_body(4) == b"abcd"
    assert await request_of().read_body(0) == b""


@pytest.mark.parametrize(("pieces", "length"), [((b"abc", b"de"), ""), ((b"abcde",), ""), ((), "5")])
async def test_over_the_limit(pieces: tuple[bytes, ...], length: str) -> None:
    with pytest.raises(TooLarge):
        await request_of(*pieces, length=length).read_body(4)


async def test_what_was_read_is_counted() -> None:
    request = request_of(b"x" * LITTLE, b"x", room=LITTLE + 1)
    await request.read_body(10**6)
    assert request.held == request.bodies.held == LITTLE + 1
    crowded = request_of(b"x" * LITTLE, b"x", b"x", room=LITTLE)
    with pytest.raises(Busy):
        await crowded.read_body(10**6)
    assert crowded.held == crowded.bodies.held == LITTLE + 1


async def test_a_trickle_is_cut(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with pytest.raises(SlowBody):
        await request_of(*[b"x"] * 1000, every_s=1).read_body(10**6)
    assert trio.current_time() - began == pytest.approx(BODY_S, abs=1)


async def test_a_large_body_gets_its_time(autojump_clock: MockClock) -> None:
    pieces = [b"x" * 100_000] * 100
    assert len(await request_of(*pieces, every_s=1).read_body(10**8)) == 10**7
