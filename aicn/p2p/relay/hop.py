"""The relay: keeps places for peers that cannot be dialled, and joins streams to them with streams of those who ask."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import trio
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.errors import AicnError, AnswerBroken, DeadlineExceeded, ProtocolViolation
from aicn.p2p import addresses
from aicn.p2p.connection import Connection
from aicn.p2p.messages import Messages
from aicn.p2p.relay.ledger import Ledger, Limits
from aicn.p2p.relay.messages import (
    STOP,
    HopMessage,
    Limit,
    Reservation,
    Status,
    StopMessage,
    expect_ok,
    on,
    peer_in,
    receive,
)
from aicn.p2p.stream import Stream
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_REQUEST_S = 10.0  # for a peer to say what it wants, and for the other to answer; beyond it the stream is reset
_PIECE = (
    64 << 10
)  # bytes taken from one side before they are given to the other: all that a circuit holds per direction

Addresses = Callable[[], Sequence[Multiaddr]]


class Hop:
    """Serves the hop protocol."""

    def __init__(self, swarm: Swarm, limits: Limits, advertised: Addresses) -> None:
        self._swarm = swarm
        self._advertised = advertised  # where this node can be reached directly
        self.ledger = Ledger(limits, lambda peer: swarm.live_direct(peer) is not None)
        swarm.relies = lambda peer: self.ledger.holds(peer, trio.current_time())

    async def serve(self, connection: Connection, stream: Stream) -> None:
        """One request; a circuit lasts as long as the handler. Whatever goes wrong costs the asker this stream."""
        messages = on(stream)
        try:
            with _deadline():
                request = await receive(messages, HopMessage)
            target = peer_in(request) if request.type == HopMessage.CONNECT else None
        except ProtocolViolation:
            await _refuse(messages, Status.MALFORMED_MESSAGE)
            return
        if connection.relayed:  # a relay over a relay
            await _refuse(messages, Status.PERMISSION_DENIED)
        elif target is not None:
            await self._connect(messages, connection.peer, target)
        elif request.type == HopMessage.RESERVE:
            await self._reserve(messages, connection)
        else:
            await _refuse(messages, Status.UNEXPECTED_MESSAGE)

    async def _reserve(self, messages: Messages, connection: Connection) -> None:
        ip = "" if connection.remote is None else str(addresses.ip_of(connection.remote))
        if not self.ledger.reserve(connection.peer, ip, trio.current_time()):
            await _refuse(messages, Status.RESERVATION_REFUSED)
            return
        here = Multiaddr(f"/p2p/{self._swarm.own_id}")
        place = Reservation(
            expire=int(time.time() + self.ledger.limits.reservation_s),
            addrs=[one.encapsulate(here).to_bytes() for one in self._advertised()],
        )
        await _answer(messages, Status.OK, reservation=place, limit=self._limit())

    async def _connect(self, messages: Messages, source: ID, target: ID) -> None:
        if source == target or not self.ledger.holds(target, trio.current_time()):
            await _refuse(messages, Status.NO_RESERVATION)
        elif not self.ledger.open(source, target):
            await _refuse(messages, Status.RESOURCE_LIMIT_EXCEEDED)
        else:
            try:
                await self._join(messages, source, target)
            finally:
                self.ledger.close(source, target)

    async def _join(self, messages: Messages, source: ID, target: ID) -> None:
        """Ask the target, tell the source, carry bytes until both are done."""
        try:
            other = await self._stop(source, target)
        except (AicnError, MuxedConnError) as error:
            log.debug("no circuit from %s to %s: %s", source, target, error)
            await _refuse(messages, Status.CONNECTION_FAILED)
            return
        try:
            await _answer(messages, Status.OK, limit=self._limit())
        except BaseException:
            other.reset()
            raise
        await self._carry(messages.release(), other)

    async def _stop(self, source: ID, target: ID) -> Stream:
        """A stream to the target that has agreed to a circuit. An exception when it does not."""
        connection = self._swarm.live_direct(target)
        if connection is None:
            raise AnswerBroken(f"{target} has gone")
        with _deadline():
            stream = await connection.open_stream(STOP)
        try:
            with _deadline():
                messages = on(stream)
                request = StopMessage(type=StopMessage.CONNECT, limit=self._limit())
                request.peer.id = source.to_bytes()
                await messages.send(request.SerializeToString())
                await expect_ok(messages, StopMessage)
        except BaseException:
            stream.reset()
            raise
        return messages.release()

    async def _carry(self, one: Stream, other: Stream) -> None:
        """Until both directions ended; a reset of either side, or a limit, resets both."""
        limits = self.ledger.limits
        done = False
        one.hold()
        other.hold()
        try:
            with trio.CancelScope() as scope:
                if limits.circuit_s:
                    scope.deadline = trio.current_time() + limits.circuit_s
                one.cancel_on_reset(scope)
                other.cancel_on_reset(scope)
                async with trio.open_nursery() as nursery:
                    for source, sink in ((one, other), (other, one)):
                        nursery.start_soon(partial(_copy, source, sink, most=limits.circuit_bytes, circuit=scope))
            done = not scope.cancelled_caught
        finally:
            for stream in (one, other):
                if done:
                    await stream.finish()
                else:
                    stream.reset()

    def _limit(self) -> Limit | None:
        """What peers are told. None when there is no limit: any that is sent, even a zero, makes go peers refuse ordinary streams."""
        limits = self.ledger.limits
        if not limits.circuit_s and not limits.circuit_bytes:
            return None
        return Limit(duration=int(limits.circuit_s), data=limits.circuit_bytes)


async def _copy(source: Stream, sink: Stream, *, most: int, circuit: trio.CancelScope) -> None:
    """One direction, to its end. Ends the circuit when it breaks or has carried `most` bytes (0: any number)."""
    carried = 0
    try:
        while data := await source.receive_some(_PIECE):
            carried += len(data)
            if most and carried > most:
                circuit.cancel()
            await sink.send_all(data)
        await sink.send_eof()
    except AnswerBroken:
        circuit.cancel()


async def _refuse(messages: Messages, status: Status.ValueType) -> None:
    await _answer(messages, status)


async def _answer(
    messages: Messages, status: Status.ValueType, reservation: Reservation | None = None, limit: Limit | None = None
) -> None:
    answer = HopMessage(type=HopMessage.STATUS, status=status, reservation=reservation, limit=limit)
    with _deadline():
        await messages.send(answer.SerializeToString())


@contextmanager
def _deadline() -> Iterator[None]:
    """DeadlineExceeded when the block takes longer than a peer may."""
    try:
        with trio.fail_after(_REQUEST_S):
            yield
    except trio.TooSlowError:
        raise DeadlineExceeded("the peer took too long") from None
