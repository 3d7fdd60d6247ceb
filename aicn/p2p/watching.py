"""Being told of connections that begin and end."""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.p2p.connection import Connection


class _Watcher(INotifee):
    """Wants to know nothing; what it is told of and may want, its subclasses say."""

    def __init__(self, callback: Callable[[ID], None]) -> None:
        self._callback = callback

    def _tell(self, conn: INetConn) -> None:
        assert isinstance(conn, Connection), "the swarm has no others"
        self._callback(conn.peer)

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """A connection has begun."""

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """A connection has ended."""

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nobody wants to know; so for the rest."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """As `opened_stream`."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """As `opened_stream`."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """As `opened_stream`."""


class OnConnect(_Watcher):
    """Tells `callback` the peer of each connection that has begun; identify comes after it."""

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002 - upstream's interface
        self._tell(conn)
