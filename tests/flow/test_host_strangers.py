"""What peers do wrong, and strangers on purpose: it costs them their stream or connection, and nobody else anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import (
    AnswerBroken,
    ModelFailed,
    ProtocolViolation,
    Unreachable,
)
from aicn.p2p import multistream
from aicn.p2p.stream import Stream
from tests.fakes.hosts import (
    ECHO,
    PEER_OF_NOBODY,
    Stranger,
    echo,
    exchange,
    full_address,
    open_test_host,
    port_of,
    read_all,
    until,
)


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/secio/1.0.0"])
async def test_unencrypted_connections_are_refused(protocol: str) -> None:
    async with open_test_host() as a:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(a))
        await stream.send_all(multistream.proposal(protocol))
        answer = b""
        with trio.fail_after(2):
            while len(answer) < len(multistream.HEADER) + 4:
                answer += await stream.receive_some()
        assert answer == multistream.HEADER + multistream.encode("na")
        await stream.aclose()


@pytest.mark.parametrize(
    "hello", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\0" * 100]
)
async def test_strangers_at_the_door_do_no_harm(hello: bytes) -> None:
    async with open_test_host() as a, open_test_host() as b:
        a.serve(ECHO, echo)
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(a))
            await stream.send_all(hello)
            await stream.aclose()
        await b.connect(full_address(a))
        assert await exchange(b, a) == b"hello"
        await until(lambda: len(a._swarm._handshakes) == 0)


async def test_who_answers_must_be_who_was_meant() -> None:
    async with open_test_host() as a, open_test_host() as b:
        with pytest.raises(Unreachable):
            await a.connect(f"{b.addresses()[0]}/p2p/{PEER_OF_NOBODY}")
        assert a.connections() == []


async def test_no_inbound_place_is_lost() -> None:
    async with open_test_host(connections=8) as a:
        for _ in range(300):
            async with trio.open_nursery() as nursery:
                stranger = await Stranger.connect(a, nursery)
                await stranger.muxer.close()
                nursery.cancel_scope.cancel()
            await until(lambda: len(a._swarm.connections) < 8)
        await until(lambda: not a._swarm.connections)


async def test_connections_beyond_the_limit_are_refused() -> None:
    async with open_test_host(connections=8) as a, trio.open_nursery() as nursery:
        for _ in range(7):
            await Stranger.connect(a, nursery)
        await until(lambda: len(a.connections()) == 7)
        with pytest.raises((ProtocolViolation, ConnectionClosedError)), trio.fail_after(2):
            await Stranger.connect(a, nursery)
        async with open_test_host() as b:
            await a.connect(full_address(b))  # the eighth place is for those whom we dial
        with pytest.raises((ProtocolViolation, ConnectionClosedError)), trio.fail_after(2):
            await Stranger.connect(a, nursery)
        assert len(a.connections()) <= 8
        nursery.cancel_scope.cancel()


async def test_one_peer_cannot_take_all_places() -> None:
    async with open_test_host() as a, open_test_host() as b, trio.open_nursery() as nursery:
        address = Multiaddr(a.addresses()[0])
        for _ in range(20):
            nursery.start_soon(b._swarm._attempt, ID.from_base58(a.id), address)
        await until(lambda: len(a.connections()) == len(b.connections()) == 8)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_closes_every_connection_is_given_up() -> None:
    async with open_test_host() as a, open_test_host() as b:
        b._swarm.on_began(lambda connection: b._swarm.nursery.start_soon(connection.close))
        a._book.add_addrs(ID.from_base58(b.id), [Multiaddr(b.addresses()[0])])
        with trio.fail_after(3):
            for _ in range(5):
                with pytest.raises((Unreachable, AnswerBroken)):
                    await exchange(a, b)


JUNK = [b"\x00\x01\x02", b"\xff" * 20, b"\x03abc", b"\x00", b"\x80", os.urandom(500)]


LIBRARY = [
    "/meshsub/1.1.0",
    "/floodsub/1.0.0",
    "/dbc/kad/1.0.0",
    "/ipfs/ping/1.0.0",
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
]


@pytest.mark.parametrize("protocol", [*LIBRARY, ECHO, None])
@pytest.mark.parametrize("ending", ["eof", "reset"])
async def test_junk_ends_its_stream_only(protocol: str | None, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_test_host(dht_mode="server") as a, open_test_host() as honest, trio.open_nursery() as nursery:
        a.serve(ECHO, echo)
        await honest.connect(full_address(a))
        kept = await honest.open_stream(a.id, ECHO)
        await kept.send_all(b"be")
        stranger = await Stranger.connect(a, nursery)
        for junk in JUNK:
            stream = await stranger.muxer.open_stream()
            await stream.send_all((multistream.proposal(protocol) if protocol else b"") + junk)
            if ending == "eof":
                stream.send_eof()
            else:
                stream.abort()
        await kept.send_all(b"fore")
        await kept.send_eof()
        assert await read_all(kept) == b"before"
        stream = await stranger.muxer.open_stream()  # its connection lives as well
        await stream.send_all(multistream.proposal(ECHO) + b"me too")
        stream.send_eof()
        answer = b""
        with trio.fail_after(5):
            while part := await stream.receive_some():
                answer += part
        assert answer == multistream.proposal(ECHO) + b"me too"
        assert await exchange(honest, a) == b"hello"
        nursery.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def failing(stream: Stream) -> None:
    await stream.receive_some()
    raise KeyError("a mistake of ours")


async def refusing(stream: Stream) -> None:
    await stream.receive_some()
    raise ModelFailed("no")


@pytest.mark.parametrize("handler", [failing, refusing])
async def test_an_exception_of_a_handler_ends_its_stream_only(
    handler: Callable[[Stream], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with open_test_host() as a, open_test_host() as b:
        b.serve(ECHO, echo)
        b.serve("/test/fail/1", handler)
        await a.connect(full_address(b))
        other = await a.open_stream(b.id, ECHO)
        await other.send_all(b"before")
        with pytest.raises(AnswerBroken):
            await exchange(a, b, protocol="/test/fail/1")
        await other.send_all(b" and after")
        await other.send_eof()
        assert await read_all(other) == b"before and after"


async def test_a_reset_is_seen_by_reader_and_writer() -> None:
    async with open_test_host() as a, open_test_host() as b:
        served: list[Stream] = []

        async def hold(stream: Stream) -> None:
            served.append(stream)
            with pytest.raises(AnswerBroken):
                while True:
                    await stream.send_all(bytes(100_000))

        b.serve("/test/hold/1", hold)
        await a.connect(full_address(b))
        stream = await a.open_stream(b.id, "/test/hold/1")
        await stream.send_all(b"x")
        await stream.receive_some()
        stream.reset()
        with pytest.raises(AnswerBroken):
            await stream.receive_some()
        with pytest.raises(AnswerBroken):
            await stream.send_all(b"y")


@pytest.mark.parametrize("how", ["reset", "connection dies"])
async def test_cancel_on_reset(how: str) -> None:
    async with open_test_host() as a, AsyncExitStack() as stack:
        b = await stack.enter_async_context(open_test_host())
        working, stopped = trio.Event(), trio.Event()

        async def work(stream: Stream) -> None:
            with trio.CancelScope() as scope:
                stream.cancel_on_reset(scope)
                working.set()
                await trio.sleep_forever()
            stopped.set()

        a.serve("/test/work/1", work)
        await b.connect(full_address(a))
        stream = await b.open_stream(a.id, "/test/work/1")
        await stream.send_all(b"x")
        with trio.fail_after(2):
            await working.wait()
        if how == "reset":
            stream.reset()
        else:
            await stack.aclose()
        with trio.fail_after(1):
            await stopped.wait()
