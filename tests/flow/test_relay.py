"""Connections through a relay: three hosts in one process, two of which cannot be dialled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio
from libp2p.peer.id import ID

from aicn.domain.ids import PeerId
from aicn.errors import AicnError, AnswerBroken, Unreachable
from aicn.p2p import multistream
from aicn.p2p.addresses import split_peer
from aicn.p2p.host import Host
from aicn.p2p.relay.hop import Hop
from aicn.p2p.relay.messages import HOP, STOP, HopMessage, Status, StopMessage, on, receive
from aicn.p2p.stream import Stream
from tests.fakes.hosts import CONFIG, ECHO, Stranger, echo, exchange, full_address, open_test_host, read_all, until

HIDDEN = replace(CONFIG, listen=())  # nobody can dial it
PSK = "f504f536a912a8cf7d00adacee8ed20270c5040d961d7f3da4fccbcbec0ec48a"
LARGE = 1 << 20


@dataclass
class World:
    relay: Host
    a: Host
    b: Host  # serves ECHO

    @property
    def hop(self) -> Hop:
        return hop_of(self.relay)


def hop_of(relay: Host) -> Hop:
    assert relay._relays.hop is not None
    return relay._relays.hop


def circuit_to(host: Host, relay: Host) -> str:
    return f"{full_address(relay)}/p2p-circuit/p2p/{host.id}"


def relayed(host: Host, peer: Host) -> list[str]:
    """Addresses of the connections that `host` has to `peer` through relays."""
    return [one.address for one in host.connections() if one.peer == peer.id and "/p2p-circuit" in one.address]


async def until_reserved(host: Host, relay: Host) -> None:
    await until(lambda: ID.from_base58(relay.id) in host._relays.client.relays)


@asynccontextmanager
async def a_world(**limits: object) -> AsyncIterator[World]:
    """A relay that a and b know as their bootstrap peer; b has its place there. `limits`: configuration of the relay."""
    common = {"psk": limits.pop("psk", "")}
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(
            open_test_host(dht_mode="server", relay_service=True, **common, **limits)
        )
        knowing = {"bootstrap": (full_address(relay),), **common}
        b = await stack.enter_async_context(open_test_host(HIDDEN, **knowing))
        await until_reserved(b, relay)
        a = await stack.enter_async_context(open_test_host(HIDDEN, relay_client="off", **knowing))
        b.serve(ECHO, echo)
        await until(lambda: len(relay.connections()) == 2)
        yield World(relay, a, b)


@pytest.fixture(params=["", PSK], ids=["open", "psk"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with a_world(psk=request.param) as made:
        yield made


async def test_a_node_that_cannot_be_dialled_advertises_its_circuit(world: World) -> None:
    circuit = f"{full_address(world.relay)}/p2p-circuit"
    assert world.b.addresses() == (circuit,)
    known = world.relay._swarm.candidates
    await until(lambda: [str(one) for one in known(ID.from_base58(world.b.id))] == [circuit])  # by identify
    assert not [one for one in world.relay.addresses() if "p2p-circuit" in one]


async def test_nodes_that_know_only_the_relay_find_each_other(world: World) -> None:
    await until(lambda: world.relay._book.known(ID.from_base58(world.b.id)))
    data = os.urandom(LARGE)
    answer = await exchange(world.a, world.b, data)
    assert hashlib.sha256(answer).digest() == hashlib.sha256(data).digest()
    circuit = f"{full_address(world.relay)}/p2p-circuit"
    assert relayed(world.a, world.b) == [circuit]
    assert relayed(world.b, world.a)[0].endswith(f"/p2p/{world.relay.id}/p2p-circuit")
    assert not [one for one in world.relay.connections() if "p2p-circuit" in one.address]
    world.a.serve(ECHO, echo)
    assert await exchange(world.b, world.a) == b"hello"  # over the same connection
    assert len(relayed(world.b, world.a)) == 1


async def test_connect_to_a_circuit(world: World) -> None:
    assert await world.a.connect(circuit_to(world.b, world.relay)) == world.b.id
    assert await exchange(world.a, world.b) == b"hello"
    assert world.hop.ledger.circuits == 1


async def test_a_conversation_on_one_stream(world: World) -> None:
    async def answer_each(stream: Stream) -> None:
        while part := await stream.receive_some():
            await stream.send_all(part.upper())

    world.b.serve("/test/talk/1", answer_each)
    await world.a.connect(circuit_to(world.b, world.relay))
    stream = await world.a.open_stream(world.b.id, "/test/talk/1")
    for number in range(20):
        await stream.send_all(b"a%d" % number)
        assert await stream.receive_some() == b"A%d" % number
    await stream.send_eof()
    assert await stream.receive_some() == b""


async def test_a_reset_passes_through(world: World) -> None:
    reached = trio.Event()

    async def hold(stream: Stream) -> None:
        with trio.CancelScope() as scope:
            stream.cancel_on_reset(scope)
            await stream.send_all(b"here")
            await trio.sleep_forever()
        reached.set()

    world.b.serve("/test/hold/1", hold)
    await world.a.connect(circuit_to(world.b, world.relay))
    stream = await world.a.open_stream(world.b.id, "/test/hold/1")
    assert await stream.receive_some() == b"here"
    stream.reset()
    with trio.fail_after(5):
        await reached.wait()
    assert await exchange(world.a, world.b) == b"hello"  # the connection is none the worse


async def test_many_streams_at_once(world: World) -> None:
    await world.a.connect(circuit_to(world.b, world.relay))
    answers = []

    async def ask(number: int) -> None:
        answers.append(await exchange(world.a, world.b, b"%d" % number) == b"%d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert answers == [True] * 50


async def test_the_end_of_a_relayed_connection_is_the_end_of_its_circuit() -> None:
    async with a_world() as world:
        for ending in (world.a, world.b):
            await world.a.connect(circuit_to(world.b, world.relay))
            await until(lambda: relayed(world.b, world.a))
            for connection in ending._swarm.open_connections():
                if connection.relayed:
                    await connection.close()
            await until(lambda: not relayed(world.a, world.b) and not relayed(world.b, world.a))
            await until(lambda: not world.hop.ledger.circuits)
        assert len(world.relay.connections()) == 2


async def test_a_direct_connection_is_preferred() -> None:
    async with a_world() as world, open_test_host() as c:
        c.serve(ECHO, echo)
        await c.connect(circuit_to(world.b, world.relay))
        assert relayed(c, world.b)
        swarm, peer = world.b._swarm, ID.from_base58(c.id)
        relayed_one = swarm.live(peer)
        assert relayed_one is not None
        assert relayed_one.relayed
        assert swarm.live_direct(peer) is None
        swarm.book.add_addrs(peer, [split_peer(full_address(c))[1]])
        direct = await swarm.connect_directly(peer)
        assert swarm.live(peer) is swarm.live_direct(peer) is direct
        await c.connect(circuit_to(world.b, world.relay))
        assert await exchange(world.b, c) == b"hello"
        swarm.connections[peer].reverse()  # whichever is the older one
        assert swarm.live(peer) is direct
        await direct.close()
        assert swarm.live(peer) is relayed_one


async def test_a_direct_address_is_dialled_before_a_circuit() -> None:
    async with a_world() as world, open_test_host(relay_client="on", relays=(full_address(world.relay),)) as c:
        c.serve(ECHO, echo)
        await until_reserved(c, world.relay)
        await until(lambda: len(world.relay._book.known(ID.from_base58(c.id))) == 2)
        assert await exchange(world.a, c) == b"hello"
        assert not relayed(world.a, c)


# ---- limits ----


async def test_without_limits_none_is_sent() -> None:
    async with a_world() as world:
        stream = await open_hop(world.a, world.relay)
        answer = await ask_hop(stream, HopMessage(type=HopMessage.RESERVE))
        assert answer.status == Status.OK
        assert not answer.HasField("limit")
        assert answer.reservation.addrs
        seen: list[bool] = []
        connection = world.b._swarm.live_direct(ID.from_base58(world.relay.id))
        assert connection is not None

        async def look(_: object, stop: Stream) -> None:
            seen.append((await receive(on(stop), StopMessage)).HasField("limit"))
            raise AnswerBroken("no")

        world.b._protocols.serve_connection(STOP, look)
        stream = await open_hop(world.a, world.relay)
        request = HopMessage(type=HopMessage.CONNECT)
        request.peer.id = ID.from_base58(world.b.id).to_bytes()
        answer = await ask_hop(stream, request)
        assert answer.status == Status.CONNECTION_FAILED
        assert seen == [False]


async def open_hop(host: Host, relay: Host) -> Stream:
    return await host.open_stream(relay.id, HOP)


async def ask_hop(stream: Stream, request: HopMessage) -> HopMessage:
    messages = on(stream)
    with trio.fail_after(5):
        await messages.send(request.SerializeToString())
        return await receive(messages, HopMessage)


async def test_a_limit_is_told_and_kept_bytes() -> None:
    async with a_world(relay_circuit_bytes=100_000) as world:
        answer = await ask_hop(await open_hop(world.a, world.relay), HopMessage(type=HopMessage.RESERVE))
        assert (answer.limit.data, answer.limit.duration) == (100_000, 0)
        await world.a.connect(circuit_to(world.b, world.relay))
        assert await exchange(world.a, world.b, bytes(50_000)) == bytes(50_000)
        with pytest.raises(AicnError):
            await exchange(world.a, world.b, bytes(60_000))
        await until(lambda: not world.hop.ledger.circuits and not relayed(world.a, world.b))


async def test_a_stream_that_must_not_be_on_a_limited_connection() -> None:
    async with a_world(relay_circuit_bytes=100_000) as world, open_test_host() as c:
        c.serve(ECHO, echo)
        await c.connect(circuit_to(world.b, world.relay))
        with pytest.raises(Unreachable, match="only through a relay that limits connections"):
            await c.open_stream(PeerId(world.b.id), ECHO, limited=False)
        with pytest.raises(Unreachable, match="only through a relay that limits connections"):
            await world.b.open_stream(PeerId(c.id), ECHO, limited=False)
        world.b._swarm.book.add_addrs(ID.from_base58(c.id), [split_peer(full_address(c))[1]])
        stream = await world.b.open_stream(PeerId(c.id), ECHO, limited=False)
        stream.reset()
        assert not world.b._swarm.connections[ID.from_base58(c.id)][-1].relayed
    async with a_world() as world:
        await world.a.connect(circuit_to(world.b, world.relay))
        (await world.a.open_stream(PeerId(world.b.id), ECHO, limited=False)).reset()


async def test_a_limit_is_kept_time() -> None:
    async with a_world(relay_circuit_s=1.0) as world:
        await world.a.connect(circuit_to(world.b, world.relay))
        assert await exchange(world.a, world.b) == b"hello"
        await until(lambda: not world.hop.ledger.circuits and not relayed(world.a, world.b))
        assert await world.a.connect(circuit_to(world.b, world.relay)) == world.b.id  # another one


async def test_more_circuits_than_allowed_are_refused() -> None:
    async with a_world(relay_circuits=1) as world, open_test_host(HIDDEN) as c:
        await world.a.connect(circuit_to(world.b, world.relay))
        with pytest.raises(Unreachable, match="RESOURCE_LIMIT_EXCEEDED"):
            await c.connect(circuit_to(world.b, world.relay))
        assert await exchange(world.a, world.b) == b"hello"


async def test_more_reservations_than_allowed_are_refused() -> None:
    async with a_world(relay_reservations=1) as world:
        answer = await ask_hop(await open_hop(world.a, world.relay), HopMessage(type=HopMessage.RESERVE))
        assert answer.status == Status.RESERVATION_REFUSED
        await until(lambda: world.b.connections())
        for connection in world.b._swarm.open_connections():
            world.b._relays._mode = "off"  # it does not come back
            world.b._relays.client.reconsider()
            await connection.close()
        await until(lambda: world.hop.ledger.reserve(ID.from_base58(world.a.id), "x", 0.0))


# ---- keeping a place ----


async def test_a_place_is_renewed() -> None:
    async with a_world() as world:
        ledger, peer = world.hop.ledger, ID.from_base58(world.b.id)
        ledger.limits = replace(ledger.limits, reservation_s=2.0)
        connection = world.b._swarm.live(ID.from_base58(world.relay.id))
        assert connection is not None
        await connection.close()  # the next place is one with the short time
        await until(lambda: ledger._reservations[peer].expires < trio.current_time() + 3)
        first = ledger._reservations[peer].expires
        await until(lambda: ledger._reservations[peer].expires > first)
        assert world.b.addresses()


async def test_places_with_every_relay_that_is_met_and_another_one_when_one_dies() -> None:
    async with a_world() as world:
        async with open_test_host(relay_service=True) as second:
            await world.b.connect(full_address(second))
            await until_reserved(world.b, second)
            assert len(world.b.addresses()) == 2
            world.a._book.add_addrs(ID.from_base58(world.b.id), world.b._relays.client.addresses(), 60)
            assert await exchange(world.a, world.b) == b"hello"
        await until(lambda: len(world.b.addresses()) == 1)
        await until_reserved(world.b, world.relay)
        assert await exchange(world.a, world.b) == b"hello"


async def test_a_configured_relay_is_reserved_with_again_after_it_was_lost() -> None:
    async with open_test_host(relay_service=True) as relay:
        async with open_test_host(HIDDEN, relays=(full_address(relay),)) as b:
            await until_reserved(b, relay)
            hop_of(relay).ledger._reservations.clear()
            for connection in relay._swarm.open_connections():
                await connection.close()
            await until(lambda: hop_of(relay).ledger.reservations)
            await until_reserved(b, relay)
            assert b.addresses()


async def test_a_public_node_has_no_places() -> None:
    async with open_test_host(relay_service=True) as relay:
        async with open_test_host(relays=(full_address(relay),)) as b:
            await until_reserved(b, relay)
            b._relays.set_public(True)
            await until(lambda: b._relays.client.relays == ())
            b._relays.set_public(False)
            await until_reserved(b, relay)


# ---- what strangers may try ----


@pytest.mark.parametrize("whom", ["the relay", "itself", "nobody", "who has no place"])
async def test_circuits_to_nowhere_are_refused(whom: str) -> None:
    async with a_world() as world, open_test_host(HIDDEN, relay_client="off") as c:
        await c.connect(full_address(world.relay))
        targets = {
            "the relay": ID.from_base58(world.relay.id).to_bytes(),
            "itself": ID.from_base58(world.a.id).to_bytes(),
            "nobody": b"junk",
            "who has no place": ID.from_base58(c.id).to_bytes(),
        }
        request = HopMessage(type=HopMessage.CONNECT)
        request.peer.id = targets[whom]
        answer = await ask_hop(await open_hop(world.a, world.relay), request)
        assert answer.status == Status.NO_RESERVATION
        assert await exchange(world.a, world.b) == b"hello"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x03\xff\xff\xff", Status.MALFORMED_MESSAGE),
        (b"\x00", Status.MALFORMED_MESSAGE),
        (b"\x02\x08\x01", Status.MALFORMED_MESSAGE),  # CONNECT without a peer
        (b"\x02\x08\x02", Status.UNEXPECTED_MESSAGE),  # STATUS
        (b"\xff\xff\x7f", None),  # longer than a message may be
        (b"\xff" * 20, Status.MALFORMED_MESSAGE),  # no length at all
    ],
)
async def test_junk_on_the_hop_protocol(data: bytes, status: int | None) -> None:
    async with a_world() as world:
        stream = await open_hop(world.a, world.relay)
        await stream.send_all(data)
        with trio.fail_after(5):
            if status is None:
                with pytest.raises(AnswerBroken):
                    await read_all(stream)
            else:
                assert (await receive(on(stream), HopMessage)).status == status
        assert await exchange(world.a, world.b) == b"hello"


async def test_nobody_else_than_its_relays_may_bring_connections() -> None:
    async with a_world() as world, trio.open_nursery() as nursery:
        async with open_test_host(relays=(full_address(world.relay),)) as c:
            stranger = await Stranger.connect(c, nursery)
            muxed = await stranger.muxer.open_stream()
            stream = Stream(muxed, PeerId(c.id), prefix=multistream.proposal(STOP), awaiting=STOP)
            messages = on(stream)
            request = StopMessage(type=StopMessage.CONNECT)
            request.peer.id = ID.from_base58(world.a.id).to_bytes()
            await messages.send(request.SerializeToString())
            assert (await receive(messages, StopMessage)).status == Status.PERMISSION_DENIED
            await stranger.muxer.close()
