"""The connections of a node: listening, accepting, dialling, and who is told of them.

A subclass because upstream's services (identify, DHT, pubsub) want its interface. What it replaces of network/swarm.py, and why:
accepting (:2060 never gives an accepted connection's place back, so that after 250 nobody can connect),
`dial_peer` (see dialing.py), `listen` (see listener.py), `add_conn` and `new_stream` (limits and bookkeeping that we do not
use, per stream), `_notify` (a nursery and a task per listener and stream), `run` (closes connections one by one).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import trio
from libp2p.abc import INetConn, IRawConnection
from libp2p.io.trio import TrioTCPStream
from libp2p.network import swarm as upstream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from aicn.errors import AicnError, Unreachable
from aicn.p2p import addresses
from aicn.p2p.connection import Connection, Direction
from aicn.p2p.dialing import Dialer
from aicn.p2p.listener import Listener
from aicn.p2p.muxer import Yamux
from aicn.p2p.peerbook import PeerBook
from aicn.p2p.protocols import Protocols
from aicn.p2p.upgrade import Upgrader

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # for an inbound connection to become a secured, multiplexed one
_MOST_HANDSHAKES = 256  # inbound connections at that stage; more are closed: half a handshake costs a stranger nothing
_MOST_PER_PEER = 8  # inbound connections; two is what simultaneous dialling leaves, the rest is room for reconnecting
_INTERFACES_S = 10.0  # how long our own addresses stay determined; interfaces come and go


CircuitDial = Callable[[Multiaddr, ID], Awaitable[IRawConnection]]  # through the relay named, to the peer; AicnError


class Swarm(upstream.Swarm):
    """All connections of one node."""

    def __init__(
        self,
        peer_id: ID,
        book: PeerBook,
        upgrader: Upgrader,
        protocols: Protocols,
        *,
        listeners: Sequence[Listener],
        most_connections: int,
        dial_s: float,
    ) -> None:
        super().__init__(peer_id, book, cast(TransportUpgrader, upgrader), [TCP()])
        self.book = book
        book.is_connected = self.is_connected
        self._upgrader = upgrader
        self._protocols = protocols
        self._most_connections = most_connections
        self.listeners = {str(listener.get_addrs()[0]): listener for listener in listeners}
        self.find: Callable[[ID], Awaitable[None]] | None = None  # looks for addresses of a peer in the DHT
        self._dialer = Dialer(self._attempt, self.candidates, self._find, deadline_s=dial_s)
        self._direct_dialer = Dialer(self._attempt, self._direct_candidates, self._find, deadline_s=dial_s)
        self.dial_circuit: CircuitDial = _no_circuit
        self._tcp = TCP()
        self._handshakes = 0
        self._open = 0
        self._count = 0  # connections so far
        self._own: tuple[float, list[Multiaddr]] = (-math.inf, [])  # when they were determined, and our addresses

    # ---- life ----

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and hold connections until cancelled; then all of them, and the listeners, close at once."""
        listeners = [cast(Listener, listener) for listener in self.listeners.values()]
        async with trio.open_nursery() as nursery:
            self.background_nursery = nursery
            self.event_background_nursery_created.set()
            try:
                for listener in listeners:
                    nursery.start_soon(listener.serve, self._accept)
                task_status.started()
                await trio.sleep_forever()
            finally:
                for listener in listeners:
                    listener.stop()

    @property
    def nursery(self) -> trio.Nursery:
        """Where connections and dials live."""
        assert self.background_nursery is not None, "the swarm runs"
        return self.background_nursery

    async def _accept(self, stream: TrioTCPStream) -> None:
        await self.accept(RawConnection(stream, False))

    async def accept(self, raw: IRawConnection, *, circuit: Multiaddr | None = None) -> None:
        """One inbound connection, from its handshake to its end. An exception of it ends nothing else.

        `circuit`: the address through the relay over which it came.
        """
        try:
            if self._handshakes >= _MOST_HANDSHAKES or self._full():
                return
            self._handshakes += 1
            try:
                with trio.fail_after(HANDSHAKE_S):
                    muxer = await self._upgrader.inbound(raw)
            finally:
                self._handshakes -= 1
            if not self._full() and len(self.connections.get(muxer.peer_id, ())) < _MOST_PER_PEER:
                await self._run_connection(muxer, "Inbound", circuit)
        except Exception as error:  # noqa: BLE001 - the boundary of one inbound connection
            log.debug("inbound connection from %s failed: %r", circuit or raw.get_remote_address(), error)
        finally:
            await _close(raw)

    def _full(self) -> bool:
        return self._open >= self._most_connections

    async def _attempt(self, peer: ID, address: Multiaddr) -> Connection:
        """Connect to one address. Unreachable."""
        if self._full():
            raise Unreachable("too many connections are open")
        circuit = address if addresses.is_circuit(address) else None
        raw = await self._open_raw(address) if circuit is None else await self.dial_circuit(circuit, peer)
        try:
            muxer = await self._upgrader.outbound(raw, peer)
            return cast(Connection, await self.nursery.start(self._run_outbound, muxer, raw, circuit))
        except AicnError:
            await _close(raw)
            raise
        except Exception as error:  # noqa: BLE001 - each security transport has its own
            await _close(raw)
            raise Unreachable(f"handshake failed: {type(error).__name__} {error}".rstrip()) from None
        except BaseException:
            await _close(raw)
            raise

    async def _open_raw(self, address: Multiaddr) -> IRawConnection:
        try:
            return await self._tcp.dial(address)
        except OpenConnectionError as error:
            raise Unreachable(_root_cause(error)) from None

    async def _run_outbound(
        self, muxer: Yamux, raw: IRawConnection, circuit: Multiaddr | None, task_status: Any
    ) -> None:
        try:
            await self._run_connection(muxer, "Outbound", circuit, task_status)
        finally:
            await _close(raw)

    async def _run_connection(
        self,
        muxer: Yamux,
        direction: Direction,
        circuit: Multiaddr | None,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._count += 1
        connection = Connection(muxer, self, number=self._count, direction=direction, circuit=circuit)
        self.connections.setdefault(connection.peer, []).append(connection)
        self._open += 1
        try:
            await connection.run(self._protocols.handle, task_status)
        finally:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """The connection has ended: it is no longer listed, and those who want to know are told."""
        listed = self.connections.get(connection.peer, [])
        if connection in listed:
            listed.remove(connection)
            self._open -= 1
            if not listed:
                del self.connections[connection.peer]
            self.nursery.start_soon(self._notify, "disconnected", connection)

    # ---- use ----

    def is_connected(self, peer: ID) -> bool:
        return peer in self.connections

    def open_connections(self) -> list[Connection]:
        """All of them."""
        return [cast(Connection, one) for listed in self.connections.values() for one in listed if not one.is_closed]

    def live(self, peer: ID) -> Connection | None:
        """The newest open connection to `peer`, one through a relay only if there is no other."""
        relayed: Connection | None = None
        for one in reversed(self.connections.get(peer, ())):
            connection = cast(Connection, one)
            if not connection.is_closed:
                if not connection.relayed:
                    return connection
                relayed = relayed or connection
        return relayed

    def live_direct(self, peer: ID) -> Connection | None:
        """The newest open connection to `peer` that does not go through a relay."""
        connection = self.live(peer)
        return None if connection is None or connection.relayed else connection

    def candidates(self, peer: ID) -> list[Multiaddr]:
        """The known addresses of `peer` that can be dialled and are not our own, the best first."""
        own = set(self.own_addresses())
        known = (addresses.without_peer(one) for one in self.book.known(peer) if addresses.diallable(one))
        return sorted((one for one in dict.fromkeys(known) if one not in own), key=addresses.rank)

    def own_addresses(self) -> list[Multiaddr]:
        """Where we listen, with the interfaces' addresses in place of 0.0.0.0 and ::."""
        determined, own = self._own
        if trio.current_time() - determined > _INTERFACES_S:
            own = addresses.expand([one for listener in self.listeners.values() for one in listener.get_addrs()])
            self._own = trio.current_time(), own
        return own

    async def connect(self, peer: ID, *, lookup: bool = False, force: bool = False) -> Connection:
        """A connection to `peer`, a live one or a new one; `lookup`: the DHT may be asked where it is.

        UnknownNode: no address is known; Unreachable, at once when it was unreachable a moment ago and `force` does not say
        that it is to be tried all the same; DeadlineExceeded.
        """
        return self.live(peer) or await self._dialer.dial(peer, self.nursery, lookup=lookup, force=force)

    async def connect_directly(self, peer: ID) -> Connection:
        """As `connect`, but not through a relay, and at the addresses that are known."""
        return self.live_direct(peer) or await self._direct_dialer.dial(peer, self.nursery, lookup=False)

    def _direct_candidates(self, peer: ID) -> list[Multiaddr]:
        return [one for one in self.candidates(peer) if not addresses.is_circuit(one)]

    async def _find(self, peer: ID) -> None:
        if self.find is not None:
            await self.find(peer)

    # ---- upstream's interface, for its services ----

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        try:
            return [await self.connect(peer_id)]
        except AicnError as error:
            raise SwarmException(error.message) from None

    async def new_stream(self, peer_id: ID) -> NetStream:
        await self.dial_peer(peer_id)
        connection = self.live(peer_id)
        try:
            if connection is not None:
                return await connection.new_stream()
        except MuxedConnError as error:
            raise SwarmException(str(error)) from None
        raise SwarmException(f"{peer_id}: the connection has just ended")

    async def _notify(self, method: str, *args: Any) -> None:
        for notifee in tuple(self.notifees):
            try:
                await getattr(notifee, method)(self, *args)
            except Exception:
                log.exception("%s of %s", method, type(notifee).__name__)

    async def notify_closed_stream(self, stream: object) -> None:
        """Nobody wants to know."""


async def _no_circuit(circuit: Multiaddr, _: ID) -> IRawConnection:
    raise Unreachable(f"circuits are not dialled here: {circuit}")


def _root_cause(error: BaseException) -> str:
    while cause := error.__cause__:
        # trio has one per address of a name
        error = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause
    return getattr(error, "strerror", None) or str(error)


async def _close(raw: IRawConnection) -> None:
    """Close a connection's socket, also when we are being cancelled: closing a socket does not wait for the peer."""
    with trio.CancelScope(shield=True):
        await raw.close()
