"""What services may rely on in a PeerStream (services/ports.py), on streams in memory and on libp2p over loopback."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.errors import AnswerBroken
from aicn.p2p.stream import Stream
from aicn.services.ports import PeerStream
from tests.fakes.hosts import full_address, open_test_host
from tests.fakes.streams import peer_stream_pair

Pair = tuple[PeerStream, PeerStream]
PROTOCOL = "/test/contract/1"


@asynccontextmanager
async def memory_pair() -> AsyncIterator[Pair]:
    yield peer_stream_pair(PeerId("a"), PeerId("b"))


@asynccontextmanager
async def libp2p_pair() -> AsyncIterator[Pair]:
    """The opener's end, and the end that the handler has; the handler's task stays until the test is over."""
    async with open_test_host() as a, open_test_host() as b:
        send, receive = trio.open_memory_channel[Stream](1)
        over = trio.Event()

        async def hold(stream: Stream) -> None:
            send.send_nowait(stream)
            await over.wait()

        b.serve(PROTOCOL, hold)
        await a.connect(full_address(b))
        opened = await a.open_stream(b.id, PROTOCOL)
        await opened.send_all(b"!")
        with trio.fail_after(2):
            accepted = await receive.receive()
            assert await accepted.receive_some() == b"!"
        yield opened, accepted
        over.set()


@pytest.fixture(params=[memory_pair, libp2p_pair])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    open_pair: Callable[[], object] = request.param
    async with open_pair() as both:  # type: ignore[attr-defined]
        yield both


@pytest.fixture(params=["opener to handler", "handler to opener"])
def ends(request: pytest.FixtureRequest, pair: Pair) -> Pair:
    return pair if request.param == "opener to handler" else (pair[1], pair[0])


async def read_all(stream: PeerStream) -> bytes:
    data = b""
    while part := await stream.receive_some():
        data += part
    return data


async def soon(wait: Callable[[], Awaitable[object]]) -> object:
    with trio.fail_after(2):
        return await wait()


async def test_bytes_arrive_in_order_and_the_end_is_clean(ends: Pair) -> None:
    one, other = ends
    data = os.urandom(1_000_000)

    async def send() -> None:
        for start in range(0, len(data), 70_001):
            await one.send_all(data[start : start + 70_001])
        await one.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await soon(lambda: read_all(other)) == data
    assert await soon(other.receive_some) == b""  # and again


async def test_each_direction_ends_by_itself(ends: Pair) -> None:
    one, other = ends
    await one.send_eof()
    assert await soon(other.receive_some) == b""
    await other.send_all(b"still here")
    await other.send_eof()
    assert await soon(lambda: read_all(one)) == b"still here"


async def test_what_piled_up_comes_in_one_piece(ends: Pair) -> None:
    one, other = ends
    for _ in range(10):
        await one.send_all(b"x" * 100)
    await one.send_eof()
    await trio.sleep(0.05)  # real sockets: let it arrive
    first = await soon(other.receive_some)
    assert first == b"x" * 1000


async def test_a_slow_reader_holds_the_writer_back_and_loses_nothing(ends: Pair) -> None:
    one, other = ends
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(400):
            await one.send_all(bytes(10_000))
            sent += 10_000
        await one.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(0.1)
        assert sent < 3_000_000
        assert len(await soon(lambda: read_all(other))) == 4_000_000  # type: ignore[arg-type]


async def test_a_reset_breaks_both_ends(ends: Pair) -> None:
    one, other = ends
    await one.send_all(b"some")
    one.reset()
    with pytest.raises(AnswerBroken):
        await soon(lambda: read_all(other))
    with pytest.raises(AnswerBroken):
        await soon(lambda: other.send_all(b"x"))
    with pytest.raises(AnswerBroken):
        await soon(one.receive_some)
    one.reset()  # does nothing more


async def test_a_reset_wakes_reader_and_writer(ends: Pair) -> None:
    one, other = ends

    async def broken(wait: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(AnswerBroken):
            await wait()

    async def fill() -> None:
        while True:
            await other.send_all(bytes(100_000))

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broken, other.receive_some)
            nursery.start_soon(broken, fill)
            await trio.sleep(0.05)
            one.reset()


async def test_a_reset_after_the_end_of_both_directions_is_nothing(ends: Pair) -> None:
    one, other = ends
    await one.send_all(b"question")
    await one.send_eof()
    assert await soon(lambda: read_all(other)) == b"question"
    await other.send_all(b"answer")
    await other.send_eof()
    await trio.sleep(0.05)
    assert await soon(lambda: read_all(one)) == b"answer"
    one.reset()
    other.reset()
    assert await soon(one.receive_some) == b""


@pytest.mark.parametrize("already", [False, True])
async def test_cancel_on_reset(ends: Pair, already: bool) -> None:
    one, other = ends
    if already:
        one.reset()
        await trio.sleep(0.05)
    with trio.fail_after(1), trio.CancelScope() as first, trio.CancelScope() as second:
        other.cancel_on_reset(first)
        other.cancel_on_reset(second)
        if not already:
            one.reset()
        await trio.sleep_forever()
    assert first.cancelled_caught or second.cancelled_caught
    assert first.cancel_called
    assert second.cancel_called


async def test_the_own_reset_cancels_nothing_here(ends: Pair) -> None:
    one, _ = ends
    scope = trio.CancelScope()
    one.cancel_on_reset(scope)
    one.reset()
    await trio.sleep(0.05)
    assert not scope.cancel_called


async def test_a_cancelled_read_loses_nothing(ends: Pair) -> None:
    one, other = ends
    for _ in range(20):
        with trio.move_on_after(0.001):
            await other.receive_some()
    await one.send_all(b"whole")
    await one.send_eof()
    assert await soon(lambda: read_all(other)) == b"whole"


async def test_a_cancelled_write_leaves_the_other_direction_whole(ends: Pair) -> None:
    one, other = ends
    with trio.move_on_after(0.05) as scope:
        await one.send_all(bytes(10_000_000))
    assert scope.cancelled_caught
    await other.send_all(b"fine")
    assert await soon(one.receive_some) == b"fine"


async def test_peer(pair: Pair) -> None:
    one, other = pair
    assert one.peer != other.peer
    assert one.peer
    assert other.peer


@pytest.mark.parametrize("cancelled", ["send", "receive"])
async def test_a_first_step_that_is_cancelled_may_be_repeated(ends: Pair, cancelled: str) -> None:
    one, other = ends
    with trio.CancelScope() as scope:
        scope.cancel()
        await (one.send_all(b"lost") if cancelled == "send" else one.receive_some())
    assert scope.cancelled_caught
    await one.send_all(b"hello")
    await one.send_eof()
    assert await soon(lambda: read_all(other)) == b"hello"
    await other.send_all(b"back")
    await other.send_eof()
    assert await soon(lambda: read_all(one)) == b"back"


async def test_cancelled_reads_and_writes_leave_other_streams_alone() -> None:
    async with open_test_host() as a, open_test_host() as b:

        async def echo(stream: Stream) -> None:
            while data := await stream.receive_some():
                await stream.send_all(data)

        b.serve(PROTOCOL, echo)
        await a.connect(full_address(b))
        kept = await a.open_stream(b.id, PROTOCOL)
        for number in range(200):
            stream = await a.open_stream(b.id, PROTOCOL)
            with trio.move_on_after(0.0005 * (number % 4)):
                while True:
                    await stream.send_all(bytes(50_000))
                    await stream.receive_some()
            if number % 2:
                stream.reset()
            else:
                await stream.send_eof()
            message = f"message {number}".encode()
            await kept.send_all(message)
            received = b""
            with trio.fail_after(10):
                while len(received) < len(message):
                    received += await kept.receive_some()
            assert received == message
        assert [one.peer for one in a.connections()] == [b.id]
