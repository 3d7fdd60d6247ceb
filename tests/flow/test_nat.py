"""What nodes behind routers do, on loopback: asking to be dialled back, telling peers of changes, leaving relays."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.p2p import autonat, autonat_server, dcutr, host, identify, multistream
from aicn.p2p.addresses import split_peer, without_peer
from aicn.p2p.autonat_server import AutoNatServer
from aicn.p2p.host import Host
from aicn.p2p.muxer import Yamux
from aicn.p2p.nat import Nat
from aicn.p2p.reachability import State
from aicn.p2p.upgrade import Upgrader
from aicn.wire.framing import FrameReader, encode_frame
from tests.fakes.hosts import ECHO, Stranger, echo, exchange, full_address, open_test_host, port_of, until


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is the internet, and nobody waits long."""
    monkeypatch.setattr(host, "Nat", partial(Nat, loopback=True))
    monkeypatch.setattr(autonat, "FIRST_S", 0.05)
    monkeypatch.setattr(autonat, "NEXT_S", 0.05)
    monkeypatch.setattr(identify, "DEBOUNCE_S", 0.05)


# ---- AutoNAT ----


@pytest.mark.usefixtures("internet")
@pytest.mark.parametrize("psk", ["", "07" * 32])
async def test_a_node_learns_that_it_can_be_dialled(psk: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aicn.p2p.reachability")
    async with open_test_host(psk=psk, dht_mode="auto") as a, open_test_host(psk=psk, dht_mode="none") as b:
        assert "/dbc/kad/1.0.0" not in a.protocols
        await a.connect(full_address(b))
        await until(lambda: a.nat.reachability.state is State.PUBLIC)
        assert "/dbc/kad/1.0.0" in a.protocols  # it serves the DHT from now on
        assert caplog.messages.count(f"reachable: publicly at {a.addresses()[0]}") == 1


@pytest.mark.usefixtures("internet")
async def test_a_node_learns_that_it_cannot_be_dialled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aicn.p2p.reachability")
    async with open_test_host() as a, open_test_host() as b:
        server = AutoNatServer(list, psk=None, private=True, dial_s=0.2)
        b._protocols.serve_connection(autonat.PROTOCOL, server.serve)
        port = port_of(a)
        for listener in a._swarm.listeners:
            listener.stop()
        await a.connect(full_address(b))
        await until(lambda: a.nat.reachability.state is State.PRIVATE)
    assert f"reachable: only by peers that this node dials; add p2p.relays or forward port {port}" in caplog.messages


class Asker:
    """A stranger with a listener of its own, which asks to be dialled back there."""

    def __init__(self, upgrader: Upgrader, peer: ID, muxer: Yamux) -> None:
        self.upgrader = upgrader
        self.peer = peer
        self.muxer = muxer

    async def ask(self, *named: str, peer: bytes | None = None) -> Message.DialResponse:
        who = self.peer.to_bytes() if peer is None else peer
        info = Message.PeerInfo(id=who, addrs=[Multiaddr(one).to_bytes() for one in named])
        return await self.say(Message(type=Message.DIAL, dial=Message.Dial(peer=info)).SerializeToString())

    async def say(self, question: bytes) -> Message.DialResponse:
        stream = await self.muxer.open_stream()
        agreement = multistream.proposal(autonat.PROTOCOL)
        await stream.send_all(agreement + encode_frame(question))
        received, reader, answer = b"", FrameReader(4096), Message()
        with trio.fail_after(10):
            while (size := multistream.check_answer(received, autonat.PROTOCOL)) is None:
                received += await stream.receive_some()
            reader.feed(received[size:])
            while (frame := reader.next_frame()) is None:
                reader.feed(await stream.receive_some())
        stream.abort()
        answer.ParseFromString(frame)
        assert answer.type == Message.DIAL_RESPONSE
        return answer.dialResponse


@asynccontextmanager
async def an_asker(target: Host, *, dial_s: float = 0.3) -> AsyncIterator[Asker]:
    """A stranger connected to `target`, which dials loopback back, for `dial_s`."""
    server = AutoNatServer(list, psk=None, private=True, dial_s=dial_s)
    target._protocols.serve_connection(autonat.PROTOCOL, server.serve)
    keys = create_new_key_pair()
    upgrader = Upgrader(keys, psk=None, streams_per_connection=1000)
    peer, _ = split_peer(full_address(target))
    async with trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(target))
        muxer = await upgrader.outbound(RawConnection(TrioTCPStream(stream), True), peer)
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        yield Asker(upgrader, ID.from_pubkey(keys.public_key), muxer)
        nursery.cancel_scope.cancel()
        await stream.aclose()


async def listen(at: str) -> tuple[trio.SocketListener, str]:
    (listener,) = await trio.open_tcp_listeners(0, host=at)
    return listener, f"/ip4/{at}/tcp/{listener.socket.getsockname()[1]}"


async def test_the_dial_back_is_a_new_connection_of_nobody_known() -> None:
    async with open_test_host() as a, an_asker(a, dial_s=5) as asker, trio.open_nursery() as nursery:
        listener, here = await listen("127.0.0.1")
        answers: list[Message.DialResponse] = []

        async def ask() -> None:
            answers.append(await asker.ask("/ip4/127.0.0.1/tcp/1", here))

        async with listener:
            nursery.start_soon(ask)
            with trio.fail_after(5):
                dialled = await listener.accept()
            async with dialled:
                assert dialled.socket.getpeername()[1] != port_of(a)
                known = await asker.upgrader.inbound(RawConnection(TrioTCPStream(dialled), False))
                assert str(known.peer_id) != a.id
                await until(lambda: answers)
                assert await dialled.receive_some() == b""  # thrown away
        assert (answers[0].status, str(Multiaddr(answers[0].addr))) == (Message.OK, here)
        assert len(a.connections()) == 1


async def test_only_the_askers_own_ip_is_dialled() -> None:
    async with open_test_host() as a, an_asker(a) as asker:
        listener, elsewhere = await listen("127.0.0.2")
        async with listener:
            answer = await asker.ask(elsewhere)
            assert answer.status == Message.E_DIAL_ERROR
            with trio.move_on_after(0.1) as nobody:
                await listener.accept()
        assert nobody.cancelled_caught


async def test_another_peer_at_that_port_does_not_count() -> None:
    async with open_test_host() as a, open_test_host() as other, an_asker(a) as asker:
        assert (await asker.ask(other.addresses()[0])).status == Message.E_DIAL_ERROR


async def test_questions_that_are_none() -> None:
    async with open_test_host() as a, an_asker(a) as asker:
        assert (await asker.say(b"\xff\xff")).status == Message.E_BAD_REQUEST
        assert (
            await asker.say(Message(type=Message.DIAL_RESPONSE).SerializeToString())
        ).status == Message.E_BAD_REQUEST
        assert (await asker.ask(a.addresses()[0], peer=b"junk")).status == Message.E_BAD_REQUEST
        assert (await asker.ask()).status == Message.E_DIAL_REFUSED
        assert (await asker.ask("/dns4/localhost/tcp/1", "/ip4/127.0.0.1/udp/1")).status == Message.E_DIAL_REFUSED


async def test_private_addresses_are_not_dialled() -> None:
    async with open_test_host() as a, an_asker(a) as asker:
        server = AutoNatServer(list, psk=None)
        a._protocols.serve_connection(autonat.PROTOCOL, server.serve)
        assert (await asker.ask("/ip4/127.0.0.1/tcp/1")).status == Message.E_DIAL_REFUSED


async def test_who_asks_too_often_is_refused() -> None:
    async with open_test_host() as a, an_asker(a, dial_s=0.05) as asker:
        nobody = "/ip4/127.0.0.1/tcp/1"
        statuses = [(await asker.ask(nobody)).status for _ in range(5)]
        assert statuses == [Message.E_DIAL_ERROR] * 3 + [Message.E_DIAL_REFUSED] * 2


async def test_one_dial_at_a_time_per_peer() -> None:
    async with open_test_host() as a, an_asker(a, dial_s=1) as asker:
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await asker.ask("/ip4/127.0.0.1/tcp/1")).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert statuses == [Message.E_DIAL_REFUSED, Message.E_DIAL_ERROR]


async def test_a_failure_takes_as_long_as_the_whole_deadline() -> None:
    async with open_test_host() as a, an_asker(a, dial_s=0.4) as asker:
        started = trio.current_time()
        await asker.ask("/ip4/127.0.0.1/tcp/1")  # refused at once, which is nobody's business
        assert trio.current_time() - started >= 0.4


# ---- identify ----


@pytest.mark.usefixtures("internet")
async def test_what_changes_is_pushed() -> None:
    async with open_test_host() as a, open_test_host() as b:
        await a.connect(full_address(b))
        of_a = ID.from_base58(a.id)
        await until(lambda: b._identify.info(of_a))
        assert ECHO not in b.peer_info(a.id).protocols
        await until(lambda: a.peer_info(b.id))
        a.serve(ECHO, echo)
        await until(lambda: ECHO in b.peer_info(a.id).protocols)
        mapped = Multiaddr("/ip4/203.0.113.7/tcp/6001")
        a._own.learnt = lambda: [mapped]
        a._identify.changed()
        await until(lambda: mapped in map(without_peer, b._book.known(of_a)))


async def test_what_peers_say_of_themselves_is_kept() -> None:
    async with open_test_host() as a, open_test_host() as b:
        assert a.peer_info(b.id) is None
        await a.connect(full_address(b))
        await until(lambda: a.peer_info(b.id))
        info = a.peer_info(b.id)
        assert info is not None
        assert (info.agent_version, info.protocol_version) == ("aicn/test", "aicn/0.0.1")


@pytest.mark.parametrize("junk", [b"\xff" * 40, b"", b"\x05\xff\xff\xff\xff\xff", b"\x80\x80\x80\x80\x80\x80"])
async def test_pushed_junk_costs_its_stream(junk: bytes) -> None:
    async with open_test_host() as a, trio.open_nursery() as nursery:
        stranger = await Stranger.connect(a, nursery)
        stream = await stranger.muxer.open_stream()
        await stream.send_all(multistream.proposal(identify.PUSH) + junk)
        stream.send_eof()
        await until(lambda: not any(one.in_use for one in a._swarm.open_connections()))
        a.serve(ECHO, echo)
        async with open_test_host() as b:
            await b.connect(full_address(a))
            assert await exchange(b, a) == b"hello"
        assert stranger.muxer.is_established
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("junk", [b"\x80", b"", b"\xff" * 12, b"\x06", b"\x35\xff"])
async def test_addresses_that_nobody_can_read_are_not_kept(junk: bytes) -> None:
    async with open_test_host() as a, an_asker(a) as asker:
        message = Identify(agent_version="junk", listen_addrs=[junk, Multiaddr("/ip4/127.0.0.1/tcp/1").to_bytes()])
        stream = await asker.muxer.open_stream()
        await stream.send_all(multistream.proposal(identify.PUSH) + encode_frame(message.SerializeToString()))
        stream.send_eof()
        await until(lambda: a.peer_info(PeerId(str(asker.peer))))
        assert a._swarm.candidates(asker.peer) == [Multiaddr("/ip4/127.0.0.1/tcp/1")]


# ---- hole punching ----


@asynccontextmanager
async def behind_a_relay(**changes: object) -> AsyncIterator[tuple[Host, Host, Host]]:
    """A relay, a, and b, which has a place with the relay; a knows only the way through it."""
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_test_host(relay_service=True, autonat_service=False))
        knowing = {"relays": (full_address(relay),), "relay_client": "on", "autonat_service": False}
        a = await stack.enter_async_context(open_test_host(**changes))
        b = await stack.enter_async_context(open_test_host(**knowing, **changes))
        b.serve(ECHO, echo)
        await until(lambda: b._relays.client.addresses())
        yield relay, a, b


@pytest.mark.usefixtures("internet")
async def test_a_relayed_connection_is_replaced_by_a_direct_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dcutr, "_GRACE_S", 0.1)
    async with behind_a_relay() as (relay, a, b):
        await a.connect(f"{full_address(relay)}/p2p-circuit/p2p/{b.id}")
        assert await exchange(a, b) == b"hello"
        of_b = ID.from_base58(b.id)
        await until(lambda: a._swarm.live_direct(of_b), seconds=10)
        await until(lambda: not any(one.relayed for one in a._swarm.connections[of_b]), seconds=10)
        assert await exchange(a, b) == b"hello"


@pytest.mark.usefixtures("internet")
async def test_without_hole_punching_the_relayed_connection_stays() -> None:
    async with behind_a_relay(hole_punching=False) as (relay, a, b):
        await a.connect(f"{full_address(relay)}/p2p-circuit/p2p/{b.id}")
        assert dcutr.PROTOCOL not in b.protocols
        assert await exchange(a, b) == b"hello"
        (connection,) = a._swarm.connections[ID.from_base58(b.id)]
        assert connection.relayed


async def test_hole_punching_is_for_relayed_connections() -> None:
    async with open_test_host() as a, trio.open_nursery() as nursery:
        stranger = await Stranger.connect(a, nursery)
        stream = await stranger.muxer.open_stream()
        await stream.send_all(multistream.proposal(dcutr.PROTOCOL))
        reset = trio.Event()
        stream.on_reset(reset.set)
        with trio.fail_after(5):
            await reset.wait()
        nursery.cancel_scope.cancel()


def test_the_quota_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio, "current_time", lambda: 0.0)
    quota = autonat_server.Quota()
    peers = [ID(bytes([0, 1, number])) for number in range(40)]
    entered = [peer for peer in peers if quota.enter(peer)]
    assert len(entered) == 30
    for peer in entered:
        quota.leave(peer)
    assert not quota.enter(peers[-1])
    monkeypatch.setattr(trio, "current_time", lambda: 61.0)
    assert quota.enter(peers[-1])
