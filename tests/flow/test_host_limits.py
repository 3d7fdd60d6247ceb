"""Many who come in: no place is lost, there is room for the useful ones, memory and files stay flat."""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Iterator

import psutil
import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError

from aicn.errors import ProtocolViolation, Unreachable
from aicn.p2p import multistream
from aicn.p2p.host import Host
from tests.fakes.hosts import ECHO, Stranger, echo, exchange, full_address, open_test_host, port_of, until

REFUSED = (ProtocolViolation, ConnectionClosedError)
CONNECTIONS = 10_000
AT_ONCE = 50


async def knock(port: int, hello: bytes, *, abort: bool) -> None:
    """Connect, say `hello`, wait for the answer if there was one, leave; `abort`: by a TCP reset."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        if abort:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if hello:
            await stream.send_all(hello)
            if not abort:
                await stream.receive_some(100)


async def handshake(host: Host) -> None:
    async with trio.open_nursery() as nursery:
        stranger = await Stranger.connect(host, nursery)
        await stranger.muxer.close()
        nursery.cancel_scope.cancel()


async def come_and_go(host: Host, numbers: Iterator[int]) -> None:
    greeting = multistream.proposal("/noise")
    hellos = [b"", greeting[:10], greeting, greeting + bytes(200), b"GET / HTTP/1.1\r\n\r\n"]
    for number in numbers:
        if number % 50 == 0:
            await handshake(host)
        else:
            await knock(port_of(host), hellos[number % len(hellos)], abort=number % len(hellos) == 1 or number % 3 == 0)


async def test_after_ten_thousand_connections_one_more_works_and_nothing_has_grown() -> None:
    """Left at every stage of the handshake, by FIN and by RST, some of them complete."""
    async with open_test_host() as a, open_test_host() as b:
        a.serve(ECHO, echo)
        process = psutil.Process()

        async def round_of(connections: int) -> tuple[int, int, int]:
            numbers = iter(range(connections))
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(come_and_go, a, numbers)
            await until(lambda: not a._swarm.connections and not len(a._swarm._handshakes), seconds=20)
            await until(lambda: a._swarm._door._free == 875, seconds=20)
            gc.collect()
            return trio.lowlevel.current_statistics().tasks_living, process.num_fds(), process.memory_info().rss

        with trio.fail_after(120):
            tasks, files, memory = await round_of(2000)  # once everything was used
            tasks_now, files_now, memory_now = await round_of(CONNECTIONS - 2000)
            await b.connect(full_address(a))
            assert await exchange(b, a) == b"hello"
        assert tasks_now <= tasks + 5
        assert files_now <= files + 5
        assert memory_now - memory < 10 << 20


async def test_half_handshakes_do_not_keep_honest_peers_out() -> None:
    async with open_test_host() as a, open_test_host() as b, trio.open_nursery() as nursery:
        a.serve(ECHO, echo)

        async def half(hello: bytes) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", port_of(a)) as stream:
                await stream.send_all(hello)
                while await stream.receive_some():  # until it is pushed out
                    pass

        for number in range(400):
            nursery.start_soon(half, multistream.proposal("/noise")[: 1 + number % 20])
        await until(lambda: len(a._swarm._handshakes) == 256, seconds=20)
        with trio.fail_after(10):
            await b.connect(full_address(a))
        assert await exchange(b, a) == b"hello"
        nursery.cancel_scope.cancel()


async def test_one_address_cannot_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.limits._network", str)  # no exception for loopback
    async with open_test_host(connections_per_ip=3) as a, trio.open_nursery() as nursery:
        for _ in range(3):
            await Stranger.connect(a, nursery)
        with pytest.raises(REFUSED), trio.fail_after(5):
            await Stranger.connect(a, nursery)
        await a._swarm.open_connections()[0].close()
        await until(lambda: a._swarm._door._taken["127.0.0.1"] == 2)
        await Stranger.connect(a, nursery)
        nursery.cancel_scope.cancel()


async def test_a_crowd_is_trimmed_and_whoever_is_of_use_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.trimming.GRACE_S", 0.2)
    monkeypatch.setattr("aicn.p2p.trimming._EVERY_S", 0.05)
    async with (
        open_test_host() as bootstrap,
        open_test_host(connections=40, bootstrap=(full_address(bootstrap),)) as a,
        open_test_host() as busy,
        trio.open_nursery() as nursery,
    ):
        a.serve(ECHO, echo)
        await until(lambda: a.connections())
        await busy.connect(full_address(a))
        stream = await busy.open_stream(a.id, ECHO)
        await stream.send_all(b"still")
        kept = {bootstrap.id, busy.id}
        for _ in range(100):  # three times as many as there are places
            try:
                await Stranger.connect(a, nursery)
            except REFUSED:
                await trio.sleep(0.05)
        await until(lambda: len(a.connections()) <= 30)
        assert kept <= {one.peer for one in a.connections()}
        await stream.send_all(b" here")
        await stream.send_eof()
        data = b""
        with trio.fail_after(5):
            while part := await stream.receive_some():
                data += part
        assert data == b"still here"
        nursery.cancel_scope.cancel()


async def test_who_is_reached_through_this_relay_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.trimming.GRACE_S", 600.0)
    monkeypatch.setattr("aicn.p2p.trimming._EVERY_S", 0.05)
    async with open_test_host(connections=40, relay_service=True) as relay, trio.open_nursery() as nursery:
        relay._book.protocols_of = lambda _: []  # nobody is worth more for what it speaks
        for _ in range(25):
            await Stranger.connect(relay, nursery)
        async with open_test_host(relays=(full_address(relay),), relay_client="on") as behind:
            await until(lambda: any("p2p-circuit" in one for one in behind.addresses()))
            (before,) = [one for one in relay.connections() if one.peer == behind.id]
            for _ in range(8):
                await Stranger.connect(relay, nursery)
            await until(lambda: len(relay.connections()) == 34)
            monkeypatch.setattr("aicn.p2p.trimming.GRACE_S", 0.0)  # from now on the ten newest have to go
            await until(lambda: len(relay.connections()) <= 25)
            assert before.number in [one.number for one in relay.connections()]
            nursery.cancel_scope.cancel()


async def test_another_network_key_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with open_test_host(psk=os.urandom(32).hex()) as a, open_test_host(psk=os.urandom(32).hex()) as b:
        for _ in range(5):
            with pytest.raises(Unreachable, match="another private network key, or none"):
                await b.connect(full_address(a))
    lines = [one.getMessage() for one in caplog.records]
    assert lines
    assert len(lines) <= 2  # one of each node
    assert set(lines) == {"a peer at 127.0.0.1 speaks with another private network key, or none"}
