"""One connection to a peer, and the task that it lives in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

import trio
from libp2p.stream_muxer.exceptions import MuxedConnError
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.p2p import multistream
from aicn.p2p.addresses import from_socket
from aicn.p2p.muxed_stream import YamuxStream
from aicn.p2p.muxer import Yamux
from aicn.p2p.stream import Stream

if TYPE_CHECKING:
    from aicn.p2p.swarm import Swarm

Direction = Literal["Inbound", "Outbound"]
StreamServer = Callable[["Connection", YamuxStream], Awaitable[None]]


class Connection:
    """In place of upstream's SwarmConn (network/connection/swarm_connection.py).

    That one ends when a handler lets an exception out (:309), sleeps 0.1 s in every close (:227), logs through the root logger, and
    takes two locks, two notifications and a semaphore per stream.
    """

    def __init__(
        self,
        muxer: Yamux,
        swarm: Swarm,
        *,
        number: int,
        direction: Direction,
        circuit: Multiaddr | None,
        limited: bool = False,
        local: Multiaddr | None,
    ) -> None:
        self.muxer = muxer
        self.swarm = swarm
        self.peer = muxer.peer_id
        self.peer_id = PeerId(str(muxer.peer_id))
        self.number = number
        self.direction: Direction = direction
        self.event_closed = trio.Event()
        self.negotiating = 0  # inbound streams that have not named a protocol yet
        self.opened_at = trio.current_time()
        remote = muxer.get_remote_address()
        self.relayed = circuit is not None  # through a relay; `remote` is then the address of the circuit
        self.limited = limited  # by that relay: go peers take no ordinary streams on it
        self.local = local  # our end of the TCP connection; None of a relayed one
        self.remote: Multiaddr | None = circuit if circuit or remote is None else from_socket(remote)

    async def run(
        self, serve: StreamServer, began: Callable[[], None], task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve the peer's streams, each in a task of its own, until the connection ends; then until they ended.

        `began` is called as soon as streams can be opened; it neither waits nor raises.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_muxer)
            await self.muxer.event_started.wait()
            began()
            task_status.started(self)
            while (stream := await self._accept()) is not None:
                nursery.start_soon(serve, self, stream)

    async def _run_muxer(self) -> None:
        try:
            await self.muxer.start()
        finally:
            self.event_closed.set()
            self.swarm.forget(self)

    async def _accept(self) -> YamuxStream | None:
        try:
            return await self.muxer.accept_stream()
        except MuxedConnError:
            return None

    @property
    def dialled(self) -> bool:
        """By us."""
        return self.direction == "Outbound"

    @property
    def in_use(self) -> bool:
        """There is a request on it."""
        return any(stream.in_use for stream in self.muxer.streams)

    @property
    def takes_streams(self) -> bool:
        """It neither ends nor has the peer said that it takes no more."""
        return not (self.is_closed or self.muxer.event_shutting_down.is_set()) and self.muxer.session.accepts_new

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    async def close(self) -> None:
        """Close it at once; streams on it break."""
        self.event_closed.set()
        await self.muxer.close()

    async def open_stream(self, protocol: str) -> Stream:
        """A stream on this very connection. MuxedConnError when it has ended."""
        prefix = multistream.proposal(protocol)
        stream = await self.muxer.open_stream()
        return Stream(stream, self.peer_id, prefix=prefix, awaiting=protocol, lacks=self._lacks)

    def _lacks(self, protocol: str) -> bool:
        """Whether the peer has told identify what it serves, and this is not among it."""
        served = self.swarm.book.protocols_of(self.peer)
        return bool(served) and protocol not in served
