"""The muxer on memory streams in the place of secured connections; once against py-libp2p's own Yamux."""

import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing
from libp2p.abc import ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux as StockYamux

from aicn.p2p import muxer
from aicn.p2p.muxed_stream import ConnectionLost, YamuxStream
from aicn.p2p.muxer import Yamux
from aicn.p2p.yamux import MAX_PAYLOAD, Limits
from aicn.p2p.yamux_stream import ACK, DATA, FIN, GO_AWAY, HEADER, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE

PEER = ID(b"\x00\x01a")


class MemoryConn(ISecureConn):
    """One end of a pipe, with the manners of py-libp2p's SecureSession: `read` raises at the end."""

    def __init__(self, stream: trio.StapledStream, *, is_initiator: bool) -> None:
        self.stream = stream
        self.is_initiator = is_initiator
        self.writes: list[int] = []
        self._flowing = trio.Event()
        self._flowing.set()

    async def write(self, data: bytes) -> None:
        await self._flowing.wait()
        self.writes.append(len(data))
        await self.stream.send_all(data)

    async def read(self, n: int | None = None) -> bytes:
        data = await self.stream.receive_some(n or 65_519)
        await self._flowing.wait()
        if not data:
            raise ConnectionClosedError("closed")
        return bytes(data)

    async def close(self) -> None:
        await self.stream.aclose()

    def freeze(self) -> None:
        """Stop reading and writing."""
        self._flowing = trio.Event()

    def thaw(self) -> None:
        self._flowing.set()

    def get_remote_address(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 4001)

    def get_transport_addresses(self) -> list:
        return []

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def get_local_peer(self) -> ID:
        return PEER

    def get_local_private_key(self):
        raise AssertionError("the muxer has no use for keys")

    get_remote_peer = get_local_peer
    get_remote_public_key = get_local_private_key


def pipe() -> tuple[MemoryConn, MemoryConn]:
    ours, theirs = trio.testing.memory_stream_pair()
    return MemoryConn(ours, is_initiator=True), MemoryConn(theirs, is_initiator=False)


@asynccontextmanager
async def running(*conns: Yamux | StockYamux) -> AsyncIterator[None]:
    """The connections with their tasks; at the end, all of them must come to an end by themselves."""
    async with trio.open_nursery() as nursery:
        for conn in conns:
            nursery.start_soon(conn.start)
        for conn in conns:
            await conn.event_started.wait()
        yield
        with trio.fail_after(20):
            for conn in conns:
                await conn.close()


@asynccontextmanager
async def pair(**options) -> AsyncIterator[tuple[Yamux, Yamux]]:
    here, there = (Yamux(conn, PEER, **options) for conn in pipe())
    async with running(here, there):
        yield here, there
    for conn in (here, there):
        assert conn.is_closed
        assert not conn.streams
        assert not conn.session.unread


async def connected(here: Yamux, there: Yamux, first: bytes = b"x") -> tuple[YamuxStream, YamuxStream]:
    """A stream and its other end; the first byte has been read."""
    stream = await here.open_stream()
    await stream.send_all(first)
    other = await there.accept_stream()
    assert await other.receive_some() == first
    return stream, other


async def read_all(stream: YamuxStream) -> bytes:
    received = bytearray()
    while data := await stream.receive_some():
        received += data
    return bytes(received)


async def echo(conn: Yamux, count: int) -> None:
    async def serve(stream: YamuxStream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(data)
        stream.send_eof()

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(serve, await conn.accept_stream())


async def discard(conn: Yamux) -> None:
    """Accept and read whatever comes."""

    async def swallow(stream: YamuxStream) -> None:
        with suppress(MuxedStreamReset):
            await read_all(stream)

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(swallow, await conn.accept_stream())


def raises(error: type[Exception], operation: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """A task that expects `operation` to fail."""

    async def expect() -> None:
        with pytest.raises(error):
            await operation()

    return expect


async def test_hundred_streams_at_once_arrive_unharmed():
    async def talk(conn: Yamux, seed: int) -> None:
        generator = random.Random(seed)
        data = generator.randbytes(generator.randrange(1, 500_000))
        stream = await conn.open_stream()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for start in range(0, len(data), 50_000):
                    await stream.send_all(data[start : start + 50_000])
                stream.send_eof()

            nursery.start_soon(send)
            assert await read_all(stream) == data
        assert stream.at_eof
        assert stream.ended

    async with pair() as (here, there), trio.open_nursery() as nursery:
        nursery.start_soon(echo, there, 100)
        for seed in range(100):
            nursery.start_soon(talk, here, seed)


async def test_a_stream_costs_one_record_each_way():
    async with pair() as (here, there):
        await trio.testing.wait_all_tasks_blocked()
        here.secured_conn.writes.clear()
        there.secured_conn.writes.clear()
        stream = await here.open_stream()
        await stream.send_all(b"q" * 1000)
        stream.send_eof()
        other = await there.accept_stream()
        assert await read_all(other) == b"q" * 1000
        await other.send_all(b"a" * 1000)
        other.send_eof()
        assert await read_all(stream) == b"a" * 1000
        assert here.secured_conn.writes == there.secured_conn.writes == [12 + 1000 + 12]


async def test_a_slow_reader_slows_the_writer_and_loses_nothing(autojump_clock):
    data = random.Random(5).randbytes(2_000_000)
    sent = 0
    async with pair() as (here, there), trio.open_nursery() as nursery:
        stream, other = await connected(here, there)

        async def send() -> None:
            nonlocal sent
            for start in range(0, len(data), 10_000):
                await stream.send_all(data[start : start + 10_000])
                sent = start + 10_000
            stream.send_eof()

        nursery.start_soon(send)
        await trio.sleep(60)  # a stock writer gives up after 5 s
        assert INITIAL_WINDOW - 20_000 < sent < INITIAL_WINDOW
        received = bytearray()
        while piece := await other.receive_some():
            received += piece
            await trio.sleep(7)
        assert received == data


async def test_a_stalled_stream_holds_up_no_other():
    async with pair() as (here, there), trio.open_nursery() as nursery:
        stalled, _ = await connected(here, there)
        nursery.start_soon(stalled.send_all, bytes(INITIAL_WINDOW * 2))
        await trio.testing.wait_all_tasks_blocked()
        stream, other = await connected(here, there, b"goes through")
        await other.send_all(b"and back")
        assert await stream.receive_some() == b"and back"
        nursery.cancel_scope.cancel()


async def test_a_full_output_serves_all_writers_in_turn():
    """The peer reads nothing at first: everybody waits. Some give up, some are reset; the others get through."""
    async with pair() as (here, there), trio.open_nursery() as nursery:
        here.secured_conn.freeze()
        streams = [await here.open_stream() for _ in range(40)]
        scopes = [trio.CancelScope() for _ in streams]
        outcome: dict[int, str] = {}

        async def send(index: int) -> None:
            with scopes[index]:
                try:
                    await streams[index].send_all(bytes([index]) * 250_000)
                    streams[index].send_eof()
                    outcome[index] = "sent"
                except MuxedStreamReset:
                    outcome[index] = "reset"

        for index in range(40):
            nursery.start_soon(send, index)
        await trio.testing.wait_all_tasks_blocked()
        assert not outcome
        assert here.session.unsent < muxer.OUTPUT_BYTES + MAX_PAYLOAD + 1000
        for index in range(0, 40, 4):
            scopes[index].cancel()
            streams[index + 1].abort()
        await trio.testing.wait_all_tasks_blocked()
        assert set(outcome.values()) == {"reset"}
        here.secured_conn.thaw()
        nursery.start_soon(discard, there)
        await trio.testing.wait_all_tasks_blocked()
        assert [outcome.get(index) for index in range(40)] == [None, "reset", "sent", "sent"] * 10
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("operation", ["read", "write"])
async def test_a_cancelled_operation_harms_nothing(operation):
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        neighbour, other_neighbour = await connected(here, there)
        async with trio.open_nursery() as nursery:
            if operation == "read":
                nursery.start_soon(stream.receive_some)
            else:
                nursery.start_soon(stream.send_all, b"z" * INITIAL_WINDOW * 3)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await neighbour.send_all(b"unharmed")
        assert await other_neighbour.receive_some() == b"unharmed"
        received = await other.receive_some() if operation == "write" else b""
        assert received == b"z" * len(received)
        await other.send_all(b"answer")
        assert await stream.receive_some() == b"answer"


async def test_a_cancelled_task_takes_no_bytes():
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        await other.send_all(b"kept")
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.receive_some()
        assert scope.cancelled_caught
        assert await stream.receive_some() == b"kept"


@pytest.mark.parametrize("waiting", ["read", "window", "turn"])
@pytest.mark.parametrize("who", ["here", "there"])
async def test_a_reset_wakes_readers_and_writers_at_both_ends(who, waiting):
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        told: list[str] = []
        stream.on_reset(lambda: told.append("here"))
        other.on_reset(lambda: told.append("there"))
        async with trio.open_nursery() as nursery:
            if waiting == "turn":
                here.grant_turns = there.grant_turns = lambda: None
                here._turns[trio.Event()] = there._turns[trio.Event()] = None
            for end in (stream, other):
                operation = end.receive_some if waiting == "read" else partial(end.send_all, bytes(3 * INITIAL_WINDOW))
                nursery.start_soon(raises(MuxedStreamReset, operation))
            await trio.testing.wait_all_tasks_blocked()
            (stream if who == "here" else other).abort()
        assert told == ["there" if who == "here" else "here"]
        for end in (stream, other):
            with pytest.raises(MuxedStreamReset):
                await end.read(1)
            with pytest.raises(MuxedStreamReset):
                await end.write(b"x")


async def test_on_reset_is_called_once_replaced_removed_or_at_once():
    async with pair() as (here, there):
        calls: list[str] = []
        stream, other = await connected(here, there)
        stream.on_reset(lambda: calls.append("replaced"))
        stream.on_reset(lambda: calls.append("kept"))
        removed, other_removed = await connected(here, there)
        removed.on_reset(lambda: calls.append("removed"))
        removed.on_reset(None)
        ended, other_ended = await connected(here, there)
        ended.on_reset(lambda: calls.append("ended cleanly"))
        ended.send_eof()
        other_ended.send_eof()
        own, _ = await connected(here, there)
        own.on_reset(lambda: calls.append("own abort"))
        own.abort()
        other.abort()
        other_removed.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert calls == ["kept"]
        stream.on_reset(lambda: calls.append("late"))
        assert calls == ["kept", "late"]
        await there.close()
        assert calls == ["kept", "late"]


async def test_half_close_and_clean_end():
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        await stream.close_write()
        with pytest.raises(MuxedStreamClosed):
            await stream.write(b"late")
        with pytest.raises(MuxedStreamEOF):
            await other.read()
        assert await other.receive_some() == b""
        assert other.at_eof
        assert not other.ended
        await other.write(b"answer")
        await other.close()
        assert await stream.read(3) == b"ans"
        assert not stream.at_eof
        assert await stream.read() == b"wer"
        assert stream.at_eof
        with pytest.raises(MuxedStreamEOF):
            await stream.read(1)
        assert stream.ended
        assert not here.streams
        assert not there.streams


async def test_unreceive_gives_the_bytes_again():
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        await stream.send_all(b"header body")
        data = await other.receive_some()
        other.unreceive(data[7:])
        await stream.send_all(b"!")
        await trio.testing.wait_all_tasks_blocked()
        assert await other.receive_some() == b"body!"


async def test_the_acceptor_may_speak_first():
    async with pair() as (here, there), trio.open_nursery() as nursery:
        stream = await here.open_stream()

        async def greet() -> None:
            await (await there.accept_stream()).send_all(b"hello")

        nursery.start_soon(greet)
        assert await stream.receive_some() == b"hello"


async def test_a_stream_left_open_by_the_peer_is_reset_in_time(autojump_clock):
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        await stream.close()
        await trio.sleep(muxer.LINGER_S - 10)
        assert here.streams
        await trio.sleep(30)
        assert not here.streams
        with pytest.raises(MuxedStreamReset):
            await other.write(b"x")


# ---- the end of a connection ----


async def test_close_breaks_everything_and_leaves_nothing():
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        finished, other_finished = await connected(here, there)
        await other_finished.send_all(b"complete")
        other_finished.send_eof()
        told: list[int] = []
        other.on_reset(lambda: told.append(1))
        async with trio.open_nursery() as nursery:
            for operation in (stream.receive_some, other.receive_some):
                nursery.start_soon(raises(ConnectionLost, operation))
            for conn in (here, there):
                nursery.start_soon(raises(MuxedConnUnavailable, conn.accept_stream))
            await trio.testing.wait_all_tasks_blocked()
            await here.close()
        await there.event_closed.wait()
        assert told == [1]
        assert await read_all(finished) == b"complete"
        for conn in (here, there):
            assert conn.is_closed
            assert not conn.is_established
            with pytest.raises(MuxedConnUnavailable):
                await conn.open_stream()
        with pytest.raises(ConnectionLost):
            await stream.write(b"x")
        await stream.close()
        await stream.reset()


async def test_what_was_queued_before_close_arrives():
    async with pair() as (here, there):
        stream, other = await connected(here, there)
        await stream.send_all(b"last words")
        stream.send_eof()
        await here.close()
        await there.event_closed.wait()
        assert await read_all(other) == b"last words"


async def test_a_cut_transport_is_a_lost_connection():
    closed: list[str] = []

    async def on_close() -> None:
        closed.append("closed")

    async with pair() as (here, there):
        stream, other = await connected(here, there)
        here.on_close = on_close
        await other.send_all(b"half an ans")
        await trio.testing.wait_all_tasks_blocked()
        await there.secured_conn.stream.send_stream.aclose()
        await here.event_closed.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert closed == ["closed"]
        assert await stream.receive_some() == b"half an ans"
        with pytest.raises(ConnectionLost):
            await stream.receive_some()


async def test_close_of_a_connection_that_never_started():
    conn = Yamux(pipe()[0], PEER)
    await conn.close()
    assert conn.is_closed
    assert conn.event_started.is_set()
    await conn.start()


async def test_cancelling_the_tasks_releases_the_transport():
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.start)
        await conn.event_started.wait()
        nursery.cancel_scope.cancel()
    assert conn.is_closed
    with pytest.raises(ConnectionClosedError):
        while True:
            await theirs.read()


async def test_a_frozen_peer_is_noticed_within_fifteen_seconds(autojump_clock):
    async with pair() as (here, there):
        stream, _ = await connected(here, there)
        await trio.sleep(60.001)
        assert here.is_established
        assert here.rtt == 0.0
        there.secured_conn.freeze()
        frozen_at = trio.current_time()
        with pytest.raises(ConnectionLost):
            await stream.receive_some()
        assert 5 <= trio.current_time() - frozen_at <= 15
        await here.event_closed.wait()


async def test_a_peer_that_stops_reading_does_not_hold_up_close(autojump_clock):
    async with pair() as (here, _there):
        here.secured_conn.freeze()  # its writes wait, as if the peer did not read
        stream = await here.open_stream()
        with trio.move_on_after(1):
            await stream.send_all(bytes(INITIAL_WINDOW * 4))
        started = trio.current_time()
        await here.close()
        assert trio.current_time() - started <= 2 * muxer.FLUSH_S


async def test_rtt_is_the_time_between_ping_and_pong(autojump_clock):
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn):
        assert await theirs.read() == HEADER.pack(0, PING, SYN, 0, 1)
        assert conn.rtt is None
        await trio.sleep(0.2)
        await theirs.write(HEADER.pack(0, PING, ACK, 0, 99) + HEADER.pack(0, PING, ACK, 0, 1))
        await trio.testing.wait_all_tasks_blocked()
        assert conn.rtt == pytest.approx(0.2)
        await theirs.read()
        await theirs.write(HEADER.pack(0, PING, ACK, 0, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert conn.rtt == pytest.approx(0.15)


async def test_a_ping_that_is_asked_for_is_sent_at_once_and_shared(autojump_clock):
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn), trio.open_nursery() as nursery:
        await theirs.read()  # the first ping is left without an answer
        nursery.start_soon(conn.ping)
        nursery.start_soon(conn.ping)
        assert await theirs.read() == HEADER.pack(0, PING, SYN, 0, 2)
        await trio.sleep(0.3)
        await theirs.write(HEADER.pack(0, PING, ACK, 0, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert conn.rtt == pytest.approx(0.3)


async def test_a_ping_ends_with_the_connection(autojump_clock):
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn), trio.open_nursery() as nursery:

        async def ping() -> None:
            with pytest.raises(MuxedConnUnavailable):
                await conn.ping()

        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.close()
    await ping()  # and there is none afterwards


# ---- a peer made of raw frames ----


async def test_a_violation_ends_the_connection_with_go_away():
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn):
        stream = await conn.open_stream()
        await stream.send_all(b"x")
        await theirs.write(HEADER.pack(0, DATA, SYN, 1, 0))
        with pytest.raises(ConnectionLost):
            await stream.receive_some()
        await conn.event_closed.wait()
        frames = await theirs.read()
        assert frames.endswith(HEADER.pack(0, GO_AWAY, 0, 0, 1))


async def test_after_go_away_streams_finish_and_none_is_opened():
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn):
        stream = await conn.open_stream()
        await stream.send_all(b"x")
        await theirs.write(HEADER.pack(0, GO_AWAY, 0, 0, 0))
        await trio.testing.wait_all_tasks_blocked()
        assert not conn.is_established
        with pytest.raises(MuxedConnUnavailable):
            await conn.open_stream()
        await theirs.write(HEADER.pack(0, DATA, 0, 1, 4) + b"last" + HEADER.pack(0, WINDOW_UPDATE, FIN, 1, 0))
        assert await read_all(stream) == b"last"
        stream.send_eof()
        await theirs.write(HEADER.pack(0, PING, SYN, 0, 5))
        await conn.event_closed.wait()


async def test_streams_over_the_backlog_are_reset():
    ours, theirs = pipe()
    conn = Yamux(ours, PEER, limits=Limits(accept_backlog=2))
    async with running(conn):
        await theirs.write(b"".join(HEADER.pack(0, WINDOW_UPDATE, SYN, i, 0) for i in (2, 4, 6)))
        await trio.testing.wait_all_tasks_blocked()
        assert HEADER.pack(0, WINDOW_UPDATE, RST, 6, 0) in await theirs.read()
        assert [(await conn.accept_stream()).stream_id for _ in range(2)] == [2, 4]


async def test_opening_waits_for_the_peer_to_answer_earlier_streams():
    ours, theirs = pipe()
    conn = Yamux(ours, PEER)
    async with running(conn), trio.open_nursery() as nursery:
        streams = [await conn.open_stream() for _ in range(muxer.UNACKNOWLEDGED)]
        await streams[0].send_all(b"x")
        opened: list[YamuxStream] = []

        async def open_one() -> None:
            opened.append(await conn.open_stream())

        nursery.start_soon(open_one)
        nursery.start_soon(open_one)
        await trio.testing.wait_all_tasks_blocked()
        assert not opened
        await theirs.write(HEADER.pack(0, WINDOW_UPDATE, ACK, 1, 0))
        await trio.testing.wait_all_tasks_blocked()
        assert len(opened) == 1
        streams[1].abort()
        await trio.testing.wait_all_tasks_blocked()
        assert len(opened) == 2


# ---- the stock muxer at the other end ----


@pytest.mark.parametrize("we_dial", [True, False])
async def test_interop_with_the_stock_muxer(we_dial):
    data = random.Random(7).randbytes(2_000_000)
    digest = hashlib.sha256(data).digest()
    dialler, listener = pipe()
    ours = Yamux(dialler if we_dial else listener, PEER)
    stock = StockYamux(listener if we_dial else dialler, PEER)

    async def send(stream) -> None:
        for start in range(0, len(data), 100_000):
            await stream.write(data[start : start + 100_000])
        await stream.close()

    async def receive(stream) -> bytes:
        received = hashlib.sha256()
        with pytest.raises(MuxedStreamEOF):
            while True:
                received.update(await stream.read(65_536))
        return received.digest()

    async def both_ways(stream, digests: list[bytes]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, stream)
            digests.append(await receive(stream))

    async with running(ours, stock):
        for opener, acceptor in ((ours, stock), (stock, ours)):
            stream = await opener.open_stream()
            await stream.write(b"x")
            other = await acceptor.accept_stream()
            assert await other.read(1) == b"x"
            digests: list[bytes] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(both_ways, stream, digests)
                nursery.start_soon(both_ways, other, digests)
            assert digests == [digest, digest]
        stream = await ours.open_stream()
        await stream.send_all(b"x")
        other = await stock.accept_stream()
        await other.reset()
        with pytest.raises(MuxedStreamReset):
            await stream.receive_some()
        assert not ours.streams
