"""Real hosts in one process, on loopback."""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import psutil
import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import (
    AnswerBroken,
    InvalidRequest,
    ModelFailed,
    ProtocolViolation,
    StartupError,
    UnknownNode,
    Unreachable,
    Unsupported,
)
from aicn.p2p import multistream
from aicn.p2p.connection import Connection
from aicn.p2p.host import Host
from aicn.p2p.stream import Stream
from tests.fakes.hosts import CONFIG, Stranger, full_address, open_test_host, port_of, until

ECHO = "/test/echo/1"


async def read_all(stream: Stream) -> bytes:
    data = b""
    while part := await stream.receive_some():
        data += part
    return data


async def echo(stream: Stream) -> None:
    await stream.send_all(await read_all(stream))


async def exchange(host: Host, peer: Host, data: bytes = b"hello", protocol: str = ECHO) -> bytes:
    with trio.fail_after(5):
        stream = await host.open_stream(peer.id, protocol)
        await stream.send_all(data)
        await stream.send_eof()
        return await read_all(stream)


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


@pytest.mark.parametrize("psk", ["", "07" * 32])
async def test_tls_is_second(psk: str) -> None:
    async with open_test_host(psk=psk) as a, open_test_host(psk=psk) as b:
        b.serve(ECHO, echo)
        del b._swarm._upgrader._security["/noise"]
        await a.connect(full_address(b))  # proposes noise, is refused, goes on to tls
        assert await exchange(a, b) == b"hello"
        big = os.urandom(300_000)
        assert await exchange(a, b, big) == big


async def test_a_peer_that_closes_every_connection_is_given_up() -> None:
    async with open_test_host() as a, open_test_host() as b:

        async def close_at_once(connection: Connection) -> None:
            await connection.close()

        b._swarm.notify_connected = close_at_once
        a._book.add_addrs(ID.from_base58(b.id), [Multiaddr(b.addresses()[0])])
        with trio.fail_after(3):
            for _ in range(5):
                with pytest.raises((Unreachable, AnswerBroken)):
                    await exchange(a, b)


async def test_one_peer_cannot_take_all_places() -> None:
    async with open_test_host() as a, open_test_host() as b, trio.open_nursery() as nursery:
        address = Multiaddr(a.addresses()[0])
        for _ in range(20):
            nursery.start_soon(b._swarm._attempt, ID.from_base58(a.id), address)
        await until(lambda: len(a.connections()) == len(b.connections()) == 8)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "modes", [("client", "client"), ("client", "server"), ("server", "client"), ("server", "server")]
)
async def test_nodes_that_know_only_a_public_node_find_each_other(modes: tuple[str, str]) -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        knowing = {"bootstrap": (full_address(public),)}
        a = await stack.enter_async_context(open_test_host(dht_mode=modes[0], **knowing))
        b = await stack.enter_async_context(open_test_host(dht_mode=modes[1], **knowing))
        a.serve(ECHO, echo)
        b.serve(ECHO, echo)
        await until(lambda: len(public.connections()) == 2)  # perhaps not identified yet
        assert not [one for one in a.connections() if one.peer == b.id]
        assert await exchange(a, b) == b"hello"
        assert await exchange(b, a) == b"hello"


async def test_client_mode_peers_are_kept_out_of_the_routing_table() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        knowing = {"bootstrap": (full_address(public),)}
        client = await stack.enter_async_context(open_test_host(dht_mode="client", **knowing))
        server = await stack.enter_async_context(open_test_host(dht_mode="server", **knowing))
        for asking in (client, server):
            with pytest.raises(UnknownNode):  # both have asked the public node something
                await asking.open_stream(PEER_OF_NOBODY, ECHO)
        await until(lambda: len(public._library._identified_peers) == 2)
        assert public._dht is not None
        await until(lambda: public._dht.routing_table.peer_in_table(ID.from_base58(server.id)))
        assert not public._dht.routing_table.peer_in_table(ID.from_base58(client.id))
        assert client._dht is not None
        assert client._dht.routing_table.peer_in_table(ID.from_base58(public.id))


async def test_a_peer_that_identify_has_not_described_yet_is_asked_all_the_same() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host(dht_mode="server"))
        b = await stack.enter_async_context(open_test_host(bootstrap=(full_address(public),)))
        b.serve(ECHO, echo)
        await until(lambda: public._library._identified_peers)
        a = await stack.enter_async_context(open_test_host())
        a._library._schedule_identify = lambda *_, **__: None
        await a.connect(full_address(public))
        assert await exchange(a, b) == b"hello"


async def test_the_routing_table_takes_only_who_is_known_to_serve() -> None:
    async with open_test_host(dht_mode="server") as a:
        dht, peer = a._dht, ID.from_base58(PEER_OF_NOBODY)
        assert dht is not None
        a._book.add_addrs(peer, [Multiaddr("/ip4/127.0.0.1/tcp/1")])
        for protocols, taken in (([], False), (["/dbc/kad/1.0.0"], True), (["/ipfs/ping/1.0.0"], False)):
            a._book.set_protocols(peer, protocols)
            assert await dht.add_peer(peer, skip_server_mode_check=True) is taken
            assert dht.routing_table.peer_in_table(peer) is taken


PEER_OF_NOBODY = "16Uiu2HAm3cuhhRL2msUuLF62KRSfneFDx94RsuouyW25Ho42cFMq"


async def test_the_dht_has_the_configured_prefix() -> None:
    async with open_test_host(dht_mode="server", dht_prefix="/other") as a:
        assert "/other/kad/1.0.0" in a.protocols
        assert not [name for name in a.protocols if name.startswith(("/dbc", "/ipfs/kad"))]


@pytest.mark.parametrize(("announce", "server"), [("/ip4/8.8.8.8/tcp/6001", True), ("/ip4/10.0.0.1/tcp/6001", False)])
async def test_dht_mode_auto(announce: str, server: bool) -> None:
    async with open_test_host(dht_mode="auto", announce=(announce,)) as a:
        assert ("/dbc/kad/1.0.0" in a.protocols) is server


async def test_dht_mode_none() -> None:
    async with open_test_host(dht_mode="none") as a:
        with pytest.raises(UnknownNode):
            await a.open_stream(PEER_OF_NOBODY, ECHO)


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


@pytest.mark.parametrize("router", ["gossipsub", "floodsub"])
async def test_members_of_the_topic_hear_each_other(router: str) -> None:
    async with open_test_host(pubsub_router=router) as a, open_test_host(pubsub_router=router) as b:
        await a.connect(full_address(b))
        for one, other in ((a, b), (b, a)):
            await one._topic._pubsub.wait_for_subscription(ID.from_base58(other.id), CONFIG.topic)
            if router == "gossipsub":  # it sends to the mesh, which the next heartbeat makes
                await one._topic._pubsub.wait_for_mesh(ID.from_base58(other.id), CONFIG.topic)
        heard = []
        b._topic._pubsub.set_topic_validator(CONFIG.topic, lambda _, message: not heard.append(message.data), False)
        await a._topic._pubsub.publish(CONFIG.topic, b"hello")
        await until(lambda: heard)
        assert heard == [b"hello"]


async def test_a_burst_of_messages_arrives() -> None:
    async with open_test_host(pubsub_router="floodsub") as a, open_test_host(pubsub_router="floodsub") as b:
        await a.connect(full_address(b))
        await a._topic._pubsub.wait_for_subscription(ID.from_base58(b.id), CONFIG.topic)
        heard = []
        b._topic._pubsub.set_topic_validator(CONFIG.topic, lambda _, message: not heard.append(message.data), False)
        for number in range(500):
            await a._topic._pubsub.publish(CONFIG.topic, str(number).encode())
        await until(lambda: len(heard) == 500)


# ---- failures ----


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
        await until(lambda: a._swarm._handshakes == 0)


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


async def test_unknown_and_unreachable_nodes() -> None:
    async with open_test_host() as a:
        with pytest.raises(UnknownNode):
            await a.open_stream(PEER_OF_NOBODY, ECHO)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(Unreachable, match="refused"):
                await a.connect(f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/p2p/{PEER_OF_NOBODY}")
        with pytest.raises(InvalidRequest):
            await a.connect(full_address(a))
        for junk in ("", "junk", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1/p2p/" + PEER_OF_NOBODY):
            with pytest.raises(InvalidRequest):
                await a.connect(junk)
        with pytest.raises(InvalidRequest):
            await a.open_stream("junk", ECHO)


async def test_who_answers_must_be_who_was_meant() -> None:
    async with open_test_host() as a, open_test_host() as b:
        with pytest.raises(Unreachable):
            await a.connect(f"{b.addresses()[0]}/p2p/{PEER_OF_NOBODY}")
        assert a.connections() == []


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


async def test_bootstrap_peers_are_connected_again() -> None:
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_test_host())
        port = port_of(public)
        member = await stack.enter_async_context(open_test_host(bootstrap=(full_address(public),)))
        await until(lambda: member.connections())
        for connection in public._swarm.open_connections():
            await connection.close()
        await until(lambda: not public.connections(), seconds=1)
        await until(lambda: public.connections() and member.connections())
        assert port_of(public) == port


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
        for _ in range(8):
            await Stranger.connect(a, nursery)
        await until(lambda: len(a.connections()) == 8)
        with pytest.raises((ProtocolViolation, ConnectionClosedError)), trio.fail_after(2):
            await Stranger.connect(a, nursery)
        assert len(a.connections()) == 8
        nursery.cancel_scope.cancel()


# ---- beginning and end ----


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
            streams = sum(isinstance(one, NetStream) for one in gc.get_objects())
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
