"""The muxer of our libp2p connections: `aicn.p2p.yamux` on trio, in the place of py-libp2p's own Yamux.

What upstream's (stream_muxer/yamux/yamux.py) does wrong: a cancelled write corrupts the connection (:875), a reset or a lost
connection reads as a clean end (:1060), a writer gives up after 5 s of closed window (:280), and a frozen peer is never noticed (:719).

Three tasks per connection, none per stream or message. Tasks that use streams only queue frames; one writer sends all that is
queued as one noise record, so that a cancelled request never leaves half a record behind. The reader applies all frames of one
read without a pause. Both are children of `start`, which runs in the nursery of whoever made the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from aicn.errors import ProtocolViolation
from aicn.p2p.muxed_stream import YamuxStream
from aicn.p2p.yamux import DEFAULT_LIMITS, MAX_PAYLOAD, NORMAL, PROTOCOL_ERROR, RECORD, Limits, Session
from aicn.p2p.yamux_stream import Stream

logger = logging.getLogger(__name__)

OUTPUT_BYTES = 2 * RECORD  # queued per connection before writers wait for their turn; a third record is under way
UNACKNOWLEDGED = 256  # own streams that the peer has not answered yet; a go peer resets what is beyond this
FLUSH_S = 1.0  # how long the frames queued at the end may take, GO_AWAY among them
LINGER_S = 60.0  # how long the peer may take to finish a stream that we have left; stock py-libp2p sweeps after as long


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A peer that sends nothing within `answer_s` of a ping is gone; the longest silence is the sum of both, in seconds."""

    every_s: float = 10.0
    answer_s: float = 5.0


DEFAULT_KEEP_ALIVE = KeepAlive()


class Yamux(IMuxedConn):
    """One connection. `start` runs it until it ends, for whatever reason, and leaves nothing behind."""

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
        *,
        limits: Limits = DEFAULT_LIMITS,
        keep_alive: KeepAlive = DEFAULT_KEEP_ALIVE,
    ) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.on_close = on_close  # SwarmConn sets its own later
        self.event_started = trio.Event()
        self.event_shutting_down = trio.Event()
        self.event_closed = trio.Event()
        self._initiator = secured_conn.is_initiator if is_initiator is None else is_initiator
        self.session = Session(initiator=self._initiator, limits=limits)
        self.reason = ""  # why the connection has ended
        self._said_goodbye = False
        self._keep_alive = keep_alive
        self._streams: dict[Stream, YamuxStream] = {}
        self._lingering: dict[YamuxStream, float] = {}  # -> when to reset it
        self._turns: dict[trio.Event, YamuxStream] = {}  # who waits for room in the output, in order
        self._openers = trio.lowlevel.ParkingLot()
        self._idle: trio.Event | None = None  # set while the writer has nothing to do
        self._acceptable: trio.Event | None = None  # set while `accept_stream` waits
        self._scope: trio.CancelScope | None = None  # of the connection's tasks, while they run
        self._reads = 0
        self._pinged = (0, 0.0)  # number and time of the last ping
        self._rtt: float | None = None
        self._ponged: trio.Event | None = None  # set when the ping is answered that somebody waits for

    # ---- py-libp2p's interface ----

    @property
    def is_initiator(self) -> bool:
        return self._initiator

    @property
    def is_established(self) -> bool:
        """Streams can be opened."""
        return self.event_started.is_set() and not self.event_shutting_down.is_set() and self.session.accepts_new

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    @property
    def orderly(self) -> bool:
        """One side has told the other that the connection ends. (go's muxer only breaks off, until yamux v5.)"""
        return self._said_goodbye or self.session.went_away is not None

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip in seconds, None before the first pong."""
        return self._rtt

    @property
    def streams(self) -> tuple[YamuxStream, ...]:
        """Those that have not ended."""
        return tuple(self._streams.values())

    async def ping(self) -> None:
        """Measure the round trip now. MuxedConnUnavailable when the connection ends before the peer answers."""
        if not self.event_shutting_down.is_set():
            if self._ponged is None:
                self._ponged = trio.Event()
                self._send_ping()
            await self._ponged.wait()
        if self.event_shutting_down.is_set():
            raise MuxedConnUnavailable(self.reason)

    def get_transport_addresses(self) -> list[Multiaddr]:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    async def open_stream(self) -> YamuxStream:
        """A new stream, without a round trip; waits only while UNACKNOWLEDGED earlier ones were not answered."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            if self.event_shutting_down.is_set() or not self.session.accepts_new:
                raise MuxedConnUnavailable(self.reason or "the peer takes no new streams")
            if self.session.unacknowledged < UNACKNOWLEDGED:
                return self._adopt(self.session.open())
            await self._openers.park()

    async def accept_stream(self) -> YamuxStream:
        """The next stream of the peer. MuxedConnUnavailable once the connection has ended."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.event_shutting_down.is_set():
            state = self.session.accept()
            if state is not None:
                return self._adopt(state)
            if self._acceptable is None:
                self._acceptable = trio.Event()
            await self._acceptable.wait()
        raise MuxedConnUnavailable(self.reason)

    async def start(self) -> None:
        """Run the connection; returns when it has ended and everything is released."""
        if self.event_started.is_set():
            return
        try:
            if not self.event_shutting_down.is_set():
                async with trio.open_nursery() as nursery:
                    self._scope = nursery.cancel_scope
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    self.event_started.set()
                    await self._read()
        except Exception:
            logger.exception("connection to %s failed", self.peer_id)
        finally:
            self._scope = None
            await self._release("cancelled")
        if self.on_close is not None:
            try:
                await self.on_close()
            except Exception:
                logger.exception("closing the connection to %s", self.peer_id)

    async def close(self, error_code: int = NORMAL) -> None:
        """Say GO_AWAY and end the connection; waits until it is released, at most a little over FLUSH_S."""
        self._shut("closed by this side", go_away=error_code)
        if self._scope is None:
            await self._release("closed by this side")
        else:
            await self.event_closed.wait()

    # ---- called by the streams ----

    @property
    def crowded(self) -> bool:
        """A writer has to wait for its turn."""
        return bool(self._turns) or self.session.unsent >= OUTPUT_BYTES

    async def turn(self, stream: YamuxStream) -> None:
        """Wait, first come, first served, until the output has room or `stream` has broken."""
        ticket = trio.Event()
        self._turns[ticket] = stream
        try:
            await ticket.wait()
        finally:
            self._turns.pop(ticket, None)

    def grant_turns(self) -> None:
        """Let as many writers go on as there is room for their frames."""
        room = OUTPUT_BYTES - self.session.unsent
        while room > 0 and self._turns:
            ticket = next(iter(self._turns))
            del self._turns[ticket]
            ticket.set()
            room -= MAX_PAYLOAD

    def flush(self) -> None:
        """Wake the writer if there is something to send."""
        if self._idle is not None and self.session.unsent:
            self._idle.set()
            self._idle = None

    def settle(self, stream: YamuxStream) -> None:
        """The stream has changed: wake who waits on it, forget it if it has ended."""
        stream.wake()
        if not stream.state.sendable and self._turns:
            for ticket, waiting in self._turns.items():
                if waiting is stream:
                    ticket.set()
        if stream.state.ended:
            self._streams.pop(stream.state, None)
            self._lingering.pop(stream, None)
            self._admit_openers()
        self.flush()

    def linger(self, stream: YamuxStream) -> None:
        if not stream.state.ended:
            self._lingering.setdefault(stream, trio.current_time() + LINGER_S)

    # ---- the three tasks ----

    async def _read(self) -> None:
        while True:
            try:
                data = await self.secured_conn.read()
            except Exception as error:  # every security transport has its own; all of them mean the same
                logger.debug("reading from %s", self.peer_id, exc_info=True)
                self._shut(f"{type(error).__name__} {error}".rstrip())
                return
            if not data:
                self._shut("closed by the peer")
            if self.event_shutting_down.is_set():
                return
            self._reads += 1
            try:
                changed = self.session.receive(data)
            except ProtocolViolation as error:
                logger.debug("peer %s: %s", self.peer_id, error)  # any stranger can do it, as often as it likes
                self._shut(str(error), go_away=PROTOCOL_ERROR)
                return
            self._apply(changed)

    def _apply(self, changed: list[Stream]) -> None:
        """Tell everybody concerned what one read has brought."""
        session = self.session
        for state in changed:
            stream = self._streams.get(state)
            if stream is not None:
                self.settle(stream)
        if self._acceptable is not None and session.backlog:
            self._acceptable.set()
            self._acceptable = None
        self._admit_openers()
        if session.answered is not None:
            self._on_pong(session.answered)
            session.answered = None
        if session.went_away is not None:
            self._openers.unpark_all()
            if session.went_away != NORMAL or not session.streams:
                self._shut(f"the peer went away (reason {session.went_away})")
        self.flush()

    async def _write(self) -> None:
        session = self.session
        while True:
            data = session.data_to_send()
            if data:
                try:
                    await self.secured_conn.write(data)
                except Exception as error:  # as in _read
                    logger.debug("writing to %s", self.peer_id, exc_info=True)
                    self._shut(f"{type(error).__name__} {error}".rstrip())
                    break
                self.grant_turns()
            elif self.event_shutting_down.is_set():
                break
            else:
                self._idle = trio.Event()
                await self._idle.wait()
        if self._scope is not None:
            self._scope.cancel()

    async def _watch(self) -> None:
        """Ping, end the connection of a peer that is silent, and sweep up what has waited too long."""
        while True:
            reads = self._reads
            self.session.acknowledge()
            self._send_ping()
            for _ in range(2):  # in two steps, so that a stall of our own process is not taken for the peer's silence
                await trio.sleep(self._keep_alive.answer_s / 2)
            if self._reads == reads:
                self._shut(f"no answer to a ping in {self._keep_alive.answer_s:g} s")
                if self._scope is not None:
                    self._scope.cancel()  # a peer that does not read would only hold up the flush
            now = trio.current_time()
            for stream in [stream for stream, deadline in self._lingering.items() if deadline <= now]:
                stream.abort()
            await trio.sleep(max(0, self._keep_alive.every_s - self._keep_alive.answer_s))

    # ---- beginning and end ----

    def _adopt(self, state: Stream) -> YamuxStream:
        stream = YamuxStream(self, state)
        if not state.ended:
            self._streams[state] = stream
        return stream

    def _admit_openers(self) -> None:
        if self._openers:
            self._openers.unpark(count=max(0, UNACKNOWLEDGED - self.session.unacknowledged))

    def _send_ping(self) -> None:
        self._pinged = (self.session.ping(), trio.current_time())
        self.flush()

    def _on_pong(self, number: int) -> None:
        pinged, at = self._pinged
        if number == pinged:
            sample = trio.current_time() - at
            self._rtt = sample if self._rtt is None else self._rtt + (sample - self._rtt) / 4
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self._ponged is not None:
            self._ponged.set()
            self._ponged = None

    def _shut(self, reason: str, *, go_away: int | None = None) -> None:
        """Break all streams and let the writer send what is queued; the first call counts."""
        if self.event_shutting_down.is_set():
            return
        self.reason = reason
        if go_away is not None:
            self.session.go_away(go_away)
            self._said_goodbye = True
        self.event_shutting_down.set()
        self.session.lose()
        for stream in list(self._streams.values()):
            self.settle(stream)
        self._openers.unpark_all()
        self._tell_waiting()
        if self._acceptable is not None:
            self._acceptable.set()
        if self._idle is not None:
            self._idle.set()
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + FLUSH_S

    async def _release(self, reason: str) -> None:
        """Close the transport, also when we are being cancelled."""
        self._shut(reason)
        if self.event_closed.is_set():
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            try:
                await self.secured_conn.close()
            except Exception:
                logger.debug("closing the transport to %s", self.peer_id, exc_info=True)
        self.event_started.set()  # whoever waits for the start of a connection that never started
        self.event_closed.set()
