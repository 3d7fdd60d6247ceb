"""One connection to a peer, as upstream's services see it (INetConn), and the task that it lives in."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import trio
from libp2p.abc import INetConn
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.rcmgr import Direction as UpstreamDirection
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


class Connection(INetConn):
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
        local: Multiaddr | None,
    ) -> None:
        self.muxed_conn = muxer
        self.muxer = muxer
        self.swarm = swarm
        self.peer = muxer.peer_id
        self.peer_id = PeerId(str(muxer.peer_id))
        self.number = number
        self.direction = UpstreamDirection.INBOUND if direction == "Inbound" else UpstreamDirection.OUTBOUND
        self.direction_name: Direction = direction
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.streams: set[NetStream] = set()
        self.negotiating = 0  # inbound streams that have not named a protocol yet
        self._created_at = time.time()  # read by upstream's services
        self.opened_at = trio.current_time()
        remote = muxer.get_remote_address()
        self.relayed = circuit is not None  # through a relay; `remote` is then the address of the circuit
        self.local = local  # our end of the TCP connection; None of a relayed one
        self.remote: Multiaddr | None = circuit if circuit or remote is None else from_socket(remote)

    async def run(self, serve: StreamServer, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the peer's streams, each in a task of its own, until the connection ends; then until they ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_muxer)
            await self.muxer.event_started.wait()
            self.event_started.set()
            nursery.start_soon(self.swarm.notify_connected, self)
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
        return self.direction_name == "Outbound"

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

    # What upstream's own protocols need: streams of the library's kind.

    async def new_stream(self) -> NetStream:
        return await self.net_stream(await self.muxer.open_stream())

    async def net_stream(self, stream: YamuxStream) -> NetStream:
        """The library's wrapper around a stream, counted until it ends."""
        wrapped = NetStream(stream, cast(SwarmConn, self), None)
        await wrapped.set_state(StreamState.OPEN)
        self.streams.add(wrapped)
        return wrapped

    def remove_stream(self, stream: NetStream) -> None:
        self.streams.discard(stream)

    def get_streams(self) -> tuple[NetStream, ...]:
        return tuple(self.streams)

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [] if self.remote is None else [self.remote]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.RELAYED if self.relayed else ConnectionType.DIRECT
