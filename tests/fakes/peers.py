"""A network in memory: hosts that fit `services.ports.Peers` and open streams to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import PROTOCOL_VERSION, Connection, NodeInfo
from aicn.errors import UnknownNode, Unsupported
from aicn.services.ports import PeerStream
from tests.fakes.streams import MemoryPeerStream, peer_stream_pair

Handler = Callable[[PeerStream], Awaitable[None]]


class MemoryNetwork:
    """Everybody reaches everybody; handlers run in `nursery`."""

    def __init__(self, nursery: trio.Nursery, *, window: int = 256 * 1024) -> None:
        self.nursery = nursery
        self.window = window
        self.hosts: dict[PeerId, MemoryPeers] = {}

    def host(self, name: str) -> MemoryPeers:
        peers = MemoryPeers(PeerId(name), self)
        self.hosts[peers.id] = peers
        return peers


class MemoryPeers:
    """One host. `streams` are the ends of the streams that it has opened."""

    def __init__(self, peer_id: PeerId, network: MemoryNetwork) -> None:
        self._id = peer_id
        self._network = network
        self._handlers: dict[str, Handler] = {}
        self.streams: list[MemoryPeerStream] = []

    @property
    def id(self) -> PeerId:
        return self._id

    def info(self) -> NodeInfo:
        return NodeInfo(self._id, PROTOCOL_VERSION, "aicn/test", (), tuple(sorted(self._handlers)))

    def serve(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def reach(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if peer not in self._network.hosts:
            raise UnknownNode(f"nobody knows peer {peer}")

    async def open_stream(self, peer: PeerId, protocol: str, *, limited: bool = True) -> PeerStream:
        await trio.lowlevel.checkpoint()
        other = self._network.hosts.get(peer)
        if other is None:
            raise UnknownNode(f"nobody knows peer {peer}")
        if protocol not in other._handlers:
            raise Unsupported(f"peer {peer} does not speak {protocol}")
        here, there = peer_stream_pair(self._id, peer, window=self._network.window)
        self.streams.append(here)
        self._network.nursery.start_soon(self._handle, other._handlers[protocol], there)
        return here

    async def connect(self, address: str) -> PeerId:
        raise NotImplementedError("a memory network has no addresses")

    def connections(self) -> Sequence[Connection]:
        return ()

    @staticmethod
    async def _handle(handler: Handler, stream: MemoryPeerStream) -> None:
        try:
            await handler(stream)
        except Exception:
            stream.reset()
            raise
        await stream.send_eof()
