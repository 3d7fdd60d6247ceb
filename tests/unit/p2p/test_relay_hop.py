"""The relay against peers that say nothing, say it late, or break off: on streams in memory and a clock of our own."""

from __future__ import annotations

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from trio.testing import MockClock

from aicn.domain.ids import PeerId
from aicn.errors import AnswerBroken, DeadlineExceeded
from aicn.p2p.relay.hop import Hop
from aicn.p2p.relay.ledger import Limits
from aicn.p2p.relay.messages import STOP, HopMessage, Status, StopMessage, on, receive
from tests.fakes.streams import MemoryPeerStream

RELAY, SOURCE, TARGET = (ID(b"\x00\x01" + name) for name in (b"r", b"s", b"t"))
WINDOW = 1000  # bytes on the way to a reader that does not read
OPENED = 10_000  # more than both windows and a piece hold


class StreamInMemory(MemoryPeerStream):
    """With the little more that a relay needs of a stream."""

    held = False

    def hold(self) -> None:
        self.held = True

    async def receive_some(self, limit: int | None = None) -> bytes:
        data = await super().receive_some()
        if limit is not None:
            self._unread[:0] = data[limit:]
            data = data[:limit]
        return data

    def unreceive(self, data: bytes) -> None:
        self._unread[:0] = data

    async def finish(self) -> None:
        await self.send_eof()


def a_pair() -> tuple[StreamInMemory, StreamInMemory]:
    ends = StreamInMemory(PeerId("a"), WINDOW), StreamInMemory(PeerId("b"), WINDOW)
    ends[0]._other, ends[1]._other = ends[1], ends[0]
    return ends


class ConnectionInMemory:
    """A connection of the relay to one peer; `opened` are the peer's ends of the streams that the relay opens."""

    relayed = False
    stuck = False  # it acknowledges no streams, so that no more can be opened
    remote = Multiaddr("/ip4/192.0.2.1/tcp/1")

    def __init__(self, peer: ID) -> None:
        self.peer = peer
        self._send, self.opened = trio.open_memory_channel[StreamInMemory](10)

    async def open_stream(self, protocol: str) -> StreamInMemory:
        assert protocol == STOP
        if self.stuck:
            await trio.sleep_forever()
        ours, theirs = a_pair()
        await self._send.send(theirs)
        return ours


class SwarmInMemory:
    def __init__(self) -> None:
        self.direct = {peer: ConnectionInMemory(peer) for peer in (SOURCE, TARGET)}
        self.own_id = RELAY

    def live_direct(self, peer: ID) -> ConnectionInMemory | None:
        return self.direct.get(peer)


class World:
    """A relay where TARGET has a place, and a stream to it that SOURCE has opened; `end` is how its handler ended."""

    def __init__(self, nursery: trio.Nursery, limits: Limits | None = None) -> None:
        self.swarm = SwarmInMemory()
        self.hop = Hop(self.swarm, limits or Limits(), lambda: [Multiaddr("/ip4/192.0.2.9/tcp/1")])  # type: ignore[arg-type]
        assert self.hop.ledger.reserve(TARGET, "192.0.2.1", trio.current_time())
        self.source, self.at_relay = a_pair()
        self.done = trio.Event()
        self.error: Exception | None = None
        nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        try:
            await self.hop.serve(self.swarm.direct[SOURCE], self.at_relay)  # type: ignore[arg-type]
        except Exception as error:
            self.error = error
        self.done.set()

    async def ask(self) -> HopMessage:
        """SOURCE asks for a circuit."""
        request = HopMessage(type=HopMessage.CONNECT)
        request.peer.id = TARGET.to_bytes()
        messages = on(self.source)  # type: ignore[arg-type]
        await messages.send(request.SerializeToString())
        answer = await receive(messages, HopMessage)
        messages.release()
        return answer

    async def asked(self, status: Status.ValueType | None = Status.OK) -> StreamInMemory:
        """TARGET is asked, and says `status`."""
        target = await self.swarm.direct[TARGET].opened.receive()
        messages = on(target)  # type: ignore[arg-type]
        request = await receive(messages, StopMessage)
        assert request.peer.id == SOURCE.to_bytes()
        if status is not None:
            await messages.send(StopMessage(type=StopMessage.STATUS, status=status).SerializeToString())
        return target

    async def joined(self) -> StreamInMemory:
        """Both have agreed; TARGET's end."""
        ends: list[StreamInMemory] = []

        async def target() -> None:
            ends.append(await self.asked())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(target)
            assert (await self.ask()).status == Status.OK
        return ends[0]


async def fill(stream: StreamInMemory, size: int) -> int:
    """Write until nothing more is taken; how much was."""
    sent = 0
    with trio.move_on_after(1):
        while sent < size:
            await stream.send_all(b"x")
            sent += 1
    return sent


async def test_who_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        await world.source.send_all(b"\x20\x08")  # the beginning of a message
        await world.done.wait()
        assert isinstance(world.error, DeadlineExceeded)  # the stream is reset by whoever called the handler
        assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize("stuck", [False, True])
async def test_a_target_that_does_not_answer_is_given_up(stuck: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        world.swarm.direct[TARGET].stuck = stuck
        if not stuck:
            nursery.start_soon(world.asked, None)
        assert (await world.ask()).status == Status.CONNECTION_FAILED
        assert trio.current_time() == pytest.approx(10)
        await world.done.wait()
        assert not world.hop.ledger.circuits


@pytest.mark.parametrize("how", ["refused", "junk", "reset", "gone"])
async def test_a_target_that_does_not_want_to(how: str, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)

        async def target() -> None:
            stream = await world.asked(Status.PERMISSION_DENIED if how == "refused" else None)
            if how == "junk":
                await stream.send_all(b"\xff" * 20)
            elif how == "reset":
                stream.reset()

        if how == "gone":
            del world.swarm.direct[TARGET]
        else:
            nursery.start_soon(target)
        expected = Status.NO_RESERVATION if how == "gone" else Status.CONNECTION_FAILED
        assert (await world.ask()).status == expected
        await world.done.wait()
        assert world.error is None
        assert not world.hop.ledger.circuits


async def test_a_reader_that_stalls_holds_back_its_peer_and_nobody_stores_the_rest(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        target = await world.joined()
        sent = await fill(world.source, OPENED)
        assert sent <= 2 * WINDOW + WINDOW  # on the way to the relay, in its hands, on the way from it
        received = 0
        while received < sent:
            received += len(await target.receive_some())
        await world.source.send_all(b"more")
        assert await target.receive_some() == b"more"
        assert world.at_relay.held
        nursery.cancel_scope.cancel()


async def test_a_relay_takes_no_more_than_a_piece_at_a_time(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        await world.joined()
        world.source._window = 1 << 20
        await world.source.send_all(bytes(1 << 20))
        await trio.sleep(1)  # the other side does not read
        assert len(world.at_relay._unread) >= (1 << 20) - (64 << 10)
        nursery.cancel_scope.cancel()


async def test_each_direction_ends_by_itself(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        target = await world.joined()
        await world.source.send_all(b"question")
        await world.source.send_eof()
        assert await target.receive_some() == b"question"
        assert await target.receive_some() == b""
        await trio.sleep(1000)
        await target.send_all(b"answer")
        assert await world.source.receive_some() == b"answer"
        assert world.hop.ledger.circuits == 1
        await target.send_eof()
        assert await world.source.receive_some() == b""
        await world.done.wait()
        assert not world.hop.ledger.circuits


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("who", ["source", "target"])
async def test_a_reset_is_passed_on_at_once(who: str, half_closed: bool, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        target = await world.joined()
        one, other = (world.source, target) if who == "source" else (target, world.source)
        if half_closed:
            await one.send_eof()
            assert await other.receive_some() == b""
        one.reset()
        await world.done.wait()
        assert world.error is None
        with pytest.raises(AnswerBroken):
            await other.send_all(b"x")
        assert not world.hop.ledger.circuits


async def test_limits_end_a_circuit(autojump_clock: MockClock) -> None:
    for limits in (Limits(circuit_s=30), Limits(circuit_bytes=100)):
        async with trio.open_nursery() as nursery:
            world = World(nursery, limits)
            target = await world.joined()
            begin = trio.current_time()
            await world.source.send_all(bytes(100))
            received = b""
            while len(received) < 100:
                received += await target.receive_some()
            await target.send_all(bytes(100))  # counted by itself
            if limits.circuit_bytes:
                await world.source.send_all(b"x")
            await world.done.wait()
            assert trio.current_time() == pytest.approx(begin + limits.circuit_s)
            assert world.source.was_reset
            assert target.was_reset


async def test_a_relay_that_stops_resets_its_circuits(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        target = await world.joined()
        nursery.cancel_scope.cancel()
    assert target.was_reset
    assert world.source.was_reset
    assert not world.hop.ledger.circuits


@pytest.mark.parametrize("kind", [HopMessage.RESERVE, HopMessage.CONNECT])
async def test_nothing_is_relayed_for_who_comes_through_a_relay(
    kind: HopMessage.Type.ValueType, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        world.swarm.direct[SOURCE].relayed = True
        request = HopMessage(type=kind)
        request.peer.id = TARGET.to_bytes()
        messages = on(world.source)  # type: ignore[arg-type]
        await messages.send(request.SerializeToString())
        assert (await receive(messages, HopMessage)).status == Status.PERMISSION_DENIED
        await world.done.wait()
        assert world.hop.ledger.reservations == 1
        assert not world.hop.ledger.circuits
