"""Real hosts in one process, on loopback: connecting, exchanging, starting and stopping."""

from __future__ import annotations

import gc
import os
import socket

import psutil
import pytest
import trio
from libp2p.peer.id import ID

from aicn.errors import (
    AnswerBroken,
    InvalidRequest,
    StartupError,
    UnknownNode,
    Unreachable,
    Unsupported,
)
from aicn.p2p import multistream
from aicn.p2p.muxed_stream import YamuxStream
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


async def test_connect_and_exchange() -> None:
    async with open_test_host() as a, open_test_host() as b:
        b.serve(ECHO, echo)
        assert await a.connect(full_address(b)) == b.id
        big = os.urandom(3_000_000)
        assert await exchange(a, b, big) == big
        await until(lambda: b.connections())
        (there,), (back,) = a.connections(), b.connections()
        assert (there.peer, there.direction, there.address) == (b.id, "Outbound", b.addresses()[0])
        assert (back.peer, back.direction) == (a.id, "Inbound")
        assert back.address.startswith("/ip4/127.0.0.1/tcp/")


async def test_the_host_connected_to_opens_streams_back() -> None:
    async with open_test_host() as a, open_test_host() as b:
        a.serve(ECHO, echo)
        await a.connect(full_address(b))
        await until(lambda: b.connections())
        assert await exchange(b, a) == b"hello"


async def test_ipv6() -> None:
    async with open_test_host(listen=("/ip6/::1/tcp/0",)) as a, open_test_host(listen=("/ip6/::1/tcp/0",)) as b:
        await a.connect(full_address(b))
        await until(lambda: b.connections())
        assert b.connections()[0].address.startswith("/ip6/::1/tcp/")


async def test_info() -> None:
    async with open_test_host(dht_mode="server") as a:
        a.serve(ECHO, echo)
        info = a.info()
        assert info.peer_id == a.id
        assert info.protocol_version == "aicn/0.0.1"
        assert info.agent_version == "aicn/test"
        assert info.addresses == a.addresses() != ()
        assert {ECHO, "/dbc/kad/1.0.0", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0"} <= set(info.protocols)


async def test_unspecified_addresses_are_expanded_and_announce_wins() -> None:
    async with open_test_host(listen=("/ip4/0.0.0.0/tcp/0",)) as a:
        assert "/ip4/127.0.0.1/tcp/" in " ".join(a.addresses())
        assert "0.0.0.0" not in " ".join(a.addresses())
    async with open_test_host(announce=("/ip4/203.0.113.1/tcp/6001",)) as b:
        assert b.addresses() == ("/ip4/203.0.113.1/tcp/6001",)


async def test_an_unknown_protocol_is_refused_and_the_connection_lives() -> None:
    async with open_test_host() as a, open_test_host() as b:
        b.serve(ECHO, echo)
        await a.connect(full_address(b))
        with pytest.raises(Unsupported, match="/test/none/1"):
            await exchange(a, b, protocol="/test/none/1")
        assert await exchange(a, b) == b"hello"


@pytest.mark.parametrize(
    ("psk", "other", "meet"),
    [
        ("00" * 31 + "01", "00" * 31 + "01", True),
        ("00" * 31 + "01", "00" * 31 + "02", False),
        ("00" * 31 + "01", "", False),
    ],
)
async def test_private_network(psk: str, other: str, meet: bool) -> None:
    async with open_test_host(psk=psk) as a, open_test_host(psk=other) as b:
        b.serve(ECHO, echo)
        for dialler, dialled in ((a, b), (b, a)):
            with trio.fail_after(2):  # and not the ten seconds of a handshake that waits for more
                if meet:
                    await dialler.connect(full_address(dialled))
                else:
                    with pytest.raises(Unreachable):
                        await dialler.connect(full_address(dialled))
        if meet:
            assert await exchange(a, b) == b"hello"


@pytest.mark.parametrize("psk", ["", "07" * 32])
async def test_tls_is_second(psk: str) -> None:
    async with open_test_host(psk=psk) as a, open_test_host(psk=psk) as b:
        b.serve(ECHO, echo)
        del b._swarm._upgrader._security["/noise"]
        await a.connect(full_address(b))  # proposes noise, is refused, goes on to tls
        assert await exchange(a, b) == b"hello"
        big = os.urandom(300_000)
        assert await exchange(a, b, big) == big


async def test_identify_names_the_agent() -> None:
    async with open_test_host() as a, trio.open_nursery() as nursery:
        stranger = await Stranger.connect(a, nursery)
        stream = await stranger.muxer.open_stream()
        await stream.send_all(multistream.proposal("/ipfs/id/1.0.0"))
        answer = b""
        with trio.fail_after(2):
            while part := await stream.receive_some():
                answer += part
        assert b"aicn/0.0.1" in answer
        assert b"aicn/test" in answer
        nursery.cancel_scope.cancel()


async def test_unknown_and_unreachable_nodes() -> None:
    async with open_test_host() as a:
        with pytest.raises(UnknownNode):
            await a.open_stream(PEER_OF_NOBODY, ECHO)
        with pytest.raises(UnknownNode):
            await a.reach(PEER_OF_NOBODY)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(Unreachable, match="refused"):
                await a.connect(f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/p2p/{PEER_OF_NOBODY}")
            with pytest.raises(Unreachable):
                await a.reach(PEER_OF_NOBODY)
        with pytest.raises(InvalidRequest):
            await a.connect(full_address(a))
        for junk in ("", "junk", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1/p2p/" + PEER_OF_NOBODY):
            with pytest.raises(InvalidRequest):
                await a.connect(junk)
        with pytest.raises(InvalidRequest):
            await a.open_stream("junk", ECHO)


async def test_a_failed_dial_is_not_held_against_the_peer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/p2p/"
        async with open_test_host() as a, open_test_host() as b:
            with pytest.raises(Unreachable):
                await a.connect(dead + b.id)
            started = trio.current_time()
            await a.connect(full_address(b))
            assert trio.current_time() - started < 0.2  # upstream: refused for 60 s, and 250 ms for each dial


async def test_port_in_use() -> None:
    async with open_test_host() as a:
        with pytest.raises(StartupError, match=rf"/ip4/127.0.0.1/tcp/{port_of(a)}.*in use"):
            async with open_test_host(listen=("/ip4/127.0.0.1/tcp/0", f"/ip4/127.0.0.1/tcp/{port_of(a)}")):
                pytest.fail("started")


@pytest.mark.parametrize("address", ["/ip4/192.0.2.77/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/dns4/localhost/tcp/0"])
async def test_an_address_that_cannot_be_listened_on(address: str) -> None:
    with pytest.raises(StartupError, match=address):
        async with open_test_host(listen=(address,)):
            pytest.fail("started")


async def test_the_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(StartupError, match="mine"):
        async with open_test_host():
            raise StartupError("mine")


async def test_shutdown_is_fast_and_frees_the_port() -> None:
    async with trio.open_nursery() as nursery:
        async with open_test_host() as a:
            a.serve(ECHO, echo)
            port = port_of(a)
            strangers = [await Stranger.connect(a, nursery) for _ in range(100)]
            for stranger in strangers:
                await (await stranger.muxer.open_stream()).send_all(multistream.proposal(ECHO))
            await until(lambda: len(a.connections()) == 100)
            started = trio.current_time()
        assert trio.current_time() - started < 1
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
        with trio.fail_after(2):
            for stranger in strangers:
                await stranger.muxer.event_closed.wait()
        nursery.cancel_scope.cancel()


async def test_nothing_grows() -> None:
    """Connections and streams that came and went leave no task, file descriptor, stream or memory behind."""
    async with open_test_host(dht_mode="server") as a, open_test_host() as b:
        b.serve(ECHO, echo)
        process = psutil.Process()

        async def round_trip() -> None:
            await a.connect(full_address(b))
            for number in range(50):
                stream = await a.open_stream(b.id, ECHO)
                await stream.send_all(bytes(1000))
                if number % 5 == 0:
                    stream.reset()
                    continue
                await stream.send_eof()
                await read_all(stream)
            for connection in a._swarm.open_connections():
                await connection.close()
            await until(lambda: not a._swarm.connections and not b._swarm.connections)

        async def state() -> tuple[int, int, int]:
            for _ in range(20):
                await trio.sleep(0.01)
            gc.collect()
            streams = sum(isinstance(one, YamuxStream) for one in gc.get_objects())
            return trio.lowlevel.current_statistics().tasks_living, process.num_fds(), streams

        for _ in range(3):
            await round_trip()
        before = await state()
        memory = process.memory_info().rss
        for _ in range(20):
            await round_trip()
        after = await state()
        assert all(now <= then + 3 for then, now in zip(before, after, strict=True)), (before, after)
        assert process.memory_info().rss - memory < 8 << 20


async def test_a_reset_by_a_peer_that_never_offered_the_protocol_says_so() -> None:
    """A go peer resets the stream behind its refusal, and the reset may overtake it."""
    async with open_test_host() as a, open_test_host() as b:

        async def reset_at_once(stream: Stream) -> None:
            stream.reset()

        b.serve("/test/known/1", reset_at_once)
        await a.connect(full_address(b))
        known = ID.from_base58(b.id)
        await until(lambda: a._book.protocols_of(known))
        with pytest.raises(AnswerBroken):
            await exchange(a, b, protocol="/test/known/1")
        a._book.peer_data_map[known].set_protocols(["/another/1"])
        with pytest.raises(Unsupported, match="/test/known/1"):
            await exchange(a, b, protocol="/test/known/1")
        assert len(a.connections()) == 1
