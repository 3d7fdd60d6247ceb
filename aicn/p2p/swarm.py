"""The connections of a node: listening, accepting, dialling, and who is told of them.

In place of upstream's (network/swarm.py), which never gives an accepted connection's place back, so that after 250 nobody can connect
(:2060), tries one address (see dialing.py), listens without noticing when it cannot (see listener.py), keeps limits and books per stream,
tells of each stream in tasks of its own (`_notify`), and closes connections one by one (`run`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio
from libp2p.abc import IRawConnection
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.config.schema import P2P
from aicn.errors import AicnError, NotConnected, Unreachable
from aicn.p2p import addresses, tcp
from aicn.p2p.addresses import Address
from aicn.p2p.connection import Connection, Direction
from aicn.p2p.dialing import Dialer
from aicn.p2p.limits import Door, Handshakes, outbound_room
from aicn.p2p.listener import Listener
from aicn.p2p.muxer import Yamux
from aicn.p2p.network_key import OtherNetwork, Warnings
from aicn.p2p.peerbook import PeerBook
from aicn.p2p.protocols import Protocols
from aicn.p2p.relay.circuit import Circuit
from aicn.p2p.tcp import TcpConnection
from aicn.p2p.trimming import Trimmer
from aicn.p2p.upgrade import Upgrader

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # for an inbound connection to become a secured, multiplexed one
_MOST_HANDSHAKES = 256  # inbound connections at that stage
_MOST_PER_PEER = 8  # inbound connections; two is what simultaneous dialling leaves, the rest is room for reconnecting
_INTERFACES_S = 10.0  # how long our own addresses stay determined; interfaces come and go
_RELIED_VALUE = 1000  # more than there are protocols
_MOST_DISMISSED = 4096  # peers remembered that are not to be dialled; the one dismissed longest ago is forgotten


CircuitDial = Callable[[Multiaddr, ID], Awaitable[IRawConnection]]  # through the relay named, to the peer; AicnError


class Swarm:
    """All connections of one node."""

    def __init__(
        self,
        peer_id: ID,
        book: PeerBook,
        upgrader: Upgrader,
        protocols: Protocols,
        *,
        listeners: Sequence[Listener],
        config: P2P,
    ) -> None:
        self.own_id = peer_id
        self.book = book
        book.is_connected = self.is_connected
        self._upgrader = upgrader
        self._protocols = protocols
        self._most_connections = config.connections
        self._door = Door(config.connections - outbound_room(config.connections), per_ip=config.connections_per_ip)
        self._warnings = Warnings()
        self._handshakes = Handshakes(_MOST_HANDSHAKES, deadline_s=HANDSHAKE_S)
        self.trimmer = Trimmer(self.open_connections, self._value, most=config.connections)
        self.listeners = listeners
        self.connections: dict[ID, list[Connection]] = {}  # those that have not ended, in the order of their beginnings
        self._began: list[Callable[[Connection], None]] = []
        self._nursery: trio.Nursery | None = None
        self.find: Callable[[ID], Awaitable[None]] | None = None  # looks for addresses of a peer in the DHT
        self._dialer = Dialer(self._attempt, self.candidates, self._find, deadline_s=config.dial_s)
        self._direct_dialer = Dialer(
            self._attempt_behind_nat, self._direct_candidates, self._find, deadline_s=config.dial_s
        )
        self.dial_circuit: CircuitDial = _no_circuit
        self.relies: Callable[[ID], bool] = lambda _: False  # whether a peer is reached through its connection to us
        self.lost: Callable[[Connection], None] = lambda _: None  # told when it ended and was the last one to its peer
        self._dismissed: dict[ID, None] = {}  # peers that are not to be dialled; the newest at the end
        self._open = 0
        self._count = 0  # connections so far
        self._own: tuple[float, list[Multiaddr]] = (-math.inf, [])  # when they were determined, and our addresses

    # ---- life ----

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Accept and hold connections until cancelled; then all of them, and the listeners, close at once."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(self.trimmer.run)
                for listener in self.listeners:
                    nursery.start_soon(listener.serve, self._accept)
                task_status.started()
                await trio.sleep_forever()
            finally:
                for listener in self.listeners:
                    listener.stop()

    @property
    def nursery(self) -> trio.Nursery:
        """Where connections and dials live."""
        assert self._nursery is not None, "the swarm runs"
        return self._nursery

    async def _accept(self, stream: TrioTCPStream) -> None:
        await self.accept(TcpConnection(stream, initiator=False))

    async def accept(self, raw: IRawConnection, *, circuit: Multiaddr | None = None) -> None:
        """One inbound connection, from its handshake to its end. An exception of it ends nothing else.

        `circuit`: the address through the relay over which it came.
        """
        try:
            with self._door.place(_ip_of(raw) if circuit is None else None):
                with self._handshakes.one():
                    muxer = await self._upgrader.inbound(raw)
                if not self._full() and len(self.connections.get(muxer.peer_id, ())) < _MOST_PER_PEER:
                    self.admit(muxer.peer_id)
                    for dialer in (self._dialer, self._direct_dialer):
                        dialer.backoff.forget(muxer.peer_id)
                    await self._run_connection(muxer, raw, "Inbound", circuit)
        except OtherNetwork:
            self._warn_of(raw)
        except Exception as error:  # noqa: BLE001 - the boundary of one inbound connection
            log.debug("inbound connection from %s failed: %r", circuit or raw.get_remote_address(), error)
        finally:
            await _close(raw)

    def _full(self) -> bool:
        return self._open >= self._most_connections

    def _warn_of(self, raw: IRawConnection) -> None:
        ip = _ip_of(raw)
        if ip is not None:
            self._warnings.other_network(str(ip))

    def _value(self, peer: ID) -> int:
        """How useful a connection to `peer` is: how many of our protocols it speaks; who relies on it comes before all others.

        A protection would let whoever takes all places of the relay take all connections; this spares the oldest of them.
        """
        spoken = set(self._protocols.names).intersection(self.book.protocols_of(peer))
        return len(spoken) + (_RELIED_VALUE if self.relies(peer) else 0)

    async def _attempt(self, peer: ID, address: Multiaddr) -> Connection:
        """Connect to one address. Unreachable."""
        if self._full():
            raise Unreachable("too many connections are open")
        if addresses.is_circuit(address):
            raw = await self.dial_circuit(address, peer)
            return await self._establish(raw, peer, address, self._upgrader.outbound)
        if any(map(addresses.is_circuit, self.candidates(peer))):
            return await self._attempt_behind_nat(peer, address)
        return await self._establish(await tcp.dial(address, self._listening()), peer, None, self._upgrader.outbound)

    async def _attempt_behind_nat(self, peer: ID, address: Multiaddr) -> Connection:
        """Connect to an address of a peer whose router may let nobody in, from no port in particular. Unreachable.

        Were it our listening port, our router would remember an attempt that came to nothing, let the peer's packets in for it when
        we `punch`, and take the answers of our listener for wrong ones. Test: tests/nat/test_nat.py.
        """
        if self._full():
            raise Unreachable("too many connections are open")
        return await self._establish(await tcp.dial(address, ()), peer, None, self._upgrader.outbound)

    async def punch(self, peer: ID, address: Multiaddr, *, patience_s: float) -> Connection:
        """Connect to `address` from our listening port in the moment in which `peer` connects to us. Unreachable.

        The routers of both let each other's packets pass then, and both ends have opened the same connection.
        `patience_s`: how long the peer may take to begin the handshakes before we do.
        """
        raw = await tcp.dial(address, self._listening())
        return await self._establish(raw, peer, None, partial(self._upgrader.simultaneous, patience_s=patience_s))

    def _listening(self) -> list[Multiaddr]:
        return [address for listener in self.listeners for address in listener.get_addrs()]

    async def _establish(
        self,
        raw: IRawConnection,
        peer: ID,
        circuit: Multiaddr | None,
        upgrade: Callable[[IRawConnection, ID], Awaitable[Yamux]],
    ) -> Connection:
        begun = False
        try:
            muxer = await upgrade(raw, peer)
            self._check_admitted(peer)
            with trio.CancelScope(shield=True):  # waits for nobody; others are told of the connection before we have it
                connection: Connection = await self.nursery.start(self._run_outbound, muxer, raw, circuit)
            begun = True
        except AicnError as error:
            if isinstance(error, OtherNetwork):
                self._warn_of(raw)
            raise
        except Exception as error:  # noqa: BLE001 - each security transport has its own
            raise Unreachable(f"handshake failed: {type(error).__name__} {error}".rstrip()) from None
        finally:
            if not begun:
                await _close(raw)
        return connection

    async def _run_outbound(
        self, muxer: Yamux, raw: IRawConnection, circuit: Multiaddr | None, task_status: Any
    ) -> None:
        try:
            await self._run_connection(muxer, raw, "Outbound", circuit, task_status)
        finally:
            await _close(raw)

    async def _run_connection(
        self,
        muxer: Yamux,
        raw: IRawConnection,
        direction: Direction,
        circuit: Multiaddr | None,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._count += 1
        local = raw.local if isinstance(raw, TcpConnection) else None
        limited = isinstance(raw, Circuit) and raw.limited
        connection = Connection(
            muxer, self, number=self._count, direction=direction, circuit=circuit, limited=limited, local=local
        )
        self.connections.setdefault(connection.peer, []).append(connection)
        self._open += 1
        try:
            await connection.run(self._protocols.handle, partial(self._tell_began, connection), task_status)
        finally:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """The connection has ended: it is no longer listed, and if it was the peer's last one, that is told."""
        listed = self.connections.get(connection.peer, [])
        if connection in listed:
            listed.remove(connection)
            self._open -= 1
            if not listed:
                del self.connections[connection.peer]
                self.lost(connection)

    # ---- use ----

    def is_connected(self, peer: ID) -> bool:
        return peer in self.connections

    def open_connections(self) -> list[Connection]:
        """All of them."""
        return [one for listed in self.connections.values() for one in listed if not one.is_closed]

    def live(self, peer: ID) -> Connection | None:
        """The newest open connection to `peer`, one through a relay only if there is no other, a limited one as the last resort."""
        relayed: Connection | None = None
        for connection in reversed(self.connections.get(peer, ())):
            if connection.takes_streams:
                if not connection.relayed:
                    return connection
                if relayed is None or (relayed.limited and not connection.limited):
                    relayed = connection
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
            own = addresses.expand(self._listening())
            self._own = trio.current_time(), own
        return own

    async def connect(self, peer: ID, *, lookup: bool = False, force: bool = False) -> Connection:
        """A connection to `peer`, a live one or a new one; `lookup`: the DHT may be asked where it is.

        UnknownNode: no address is known; Unreachable, at once when it was unreachable a moment ago and `force` does not say
        that it is to be tried all the same, or when it was dismissed; DeadlineExceeded.
        """
        live = self.live(peer)
        if live is not None:
            return live
        self._check_admitted(peer)
        return await self._dialer.dial(peer, self.nursery, lookup=lookup, force=force)

    async def connect_directly(self, peer: ID) -> Connection:
        """As `connect`, but not through a relay, and at the addresses that are known."""
        live = self.live_direct(peer)
        if live is not None:
            return live
        self._check_admitted(peer)
        return await self._direct_dialer.dial(peer, self.nursery, lookup=False)

    async def dismiss(self, peer: ID) -> None:
        """Close all connections to `peer`, and dial it no more until `admit` or until it dials us. NotConnected."""
        connections = [one for one in self.open_connections() if one.peer == peer]
        if not connections:
            raise NotConnected("not connected")
        self._dismissed[peer] = None
        if len(self._dismissed) > _MOST_DISMISSED:
            del self._dismissed[next(iter(self._dismissed))]
        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(connection.close)

    def admit(self, peer: ID) -> None:
        """`peer` may be dialled again."""
        self._dismissed.pop(peer, None)

    def _check_admitted(self, peer: ID) -> None:
        if peer in self._dismissed:
            raise Unreachable(f"{peer} was disconnected by hand, and is not dialled until it is connected by hand")

    def _direct_candidates(self, peer: ID) -> list[Multiaddr]:
        return [one for one in self.candidates(peer) if not addresses.is_circuit(one)]

    def on_began(self, tell: Callable[[Connection], None]) -> None:
        """Have `tell` told of each connection that has begun; identify comes after it."""
        self._began.append(tell)

    def _tell_began(self, connection: Connection) -> None:
        for tell in self._began:
            tell(connection)

    def on_dialled(self, tell: Callable[[ID, Multiaddr, bool], None]) -> None:
        """Have `tell` told of each address that was dialled, and whether the peer was reached there."""
        self._dialer.tell = self._direct_dialer.tell = tell

    def on_unreachable(self, tell: Callable[[ID], None]) -> None:
        """Have `tell` told of each peer that was dialled and not reached."""
        self._dialer.tell_failed = self._direct_dialer.tell_failed = tell

    async def _find(self, peer: ID) -> None:
        if self.find is not None:
            await self.find(peer)


async def _no_circuit(circuit: Multiaddr, _: ID) -> IRawConnection:
    raise Unreachable(f"circuits are not dialled here: {circuit}")


def _ip_of(raw: IRawConnection) -> Address | None:
    remote = raw.get_remote_address()
    return None if remote is None else addresses.ip_of(addresses.from_socket(remote))


async def _close(raw: IRawConnection) -> None:
    """Close a connection's socket, also when we are being cancelled: closing a socket does not wait for the peer."""
    with trio.CancelScope(shield=True):
        await raw.close()
