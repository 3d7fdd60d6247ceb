"""Being reached behind routers: what this node knows of its addresses, and what it does to be dialled.

Nat.run
 ├─ autonat.run       asks peers to dial us back
 ├─ mapping.run       a port of the router, by UPnP
 ├─ upgrade.run       direct connections in place of relayed ones that come in
 └─ _watch            our addresses, which come and go
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.config.schema import P2P
from aicn.p2p import addresses, autonat, dcutr
from aicn.p2p.autonat import AutoNat
from aicn.p2p.autonat_server import AutoNatServer
from aicn.p2p.connection import Connection
from aicn.p2p.dcutr import DirectUpgrade
from aicn.p2p.identify import Identify
from aicn.p2p.observed import ObservedAddresses
from aicn.p2p.own_addresses import OwnAddresses
from aicn.p2p.protocols import Protocols
from aicn.p2p.reachability import Reachability, State
from aicn.p2p.swarm import Swarm
from aicn.p2p.upnp import PortMapping

_LOOK_S = 30.0  # between looks at our addresses


class Nat:
    """Made with the host; serves what it serves from then on, and acts while `run` runs.

    `trusted`: the peers that the user configured. `loopback`, for tests: take it for the internet.
    """

    def __init__(
        self,
        config: P2P,
        swarm: Swarm,
        own: OwnAddresses,
        identify: Identify,
        protocols: Protocols,
        *,
        psk: bytes | None,
        trusted: Collection[ID],
        loopback: bool = False,
    ) -> None:
        self._swarm = swarm
        self._own = own
        self._identify = identify
        self._trusted = trusted
        self._loopback = loopback
        self.reachability = Reachability(self._ports)
        self.observed = ObservedAddresses(swarm.own_addresses, loopback=loopback)
        identify.observed = self._on_observed
        own.learnt = self._learnt
        self.autonat = AutoNat(swarm.own_id, self.reachability, self._servers, self.candidates)
        self._mapping = PortMapping(self._unmapped, self._addresses_changed) if config.port_mapping else None
        if config.autonat_service:
            server = AutoNatServer(own.direct, psk=psk, private=loopback)
            protocols.serve_connection(autonat.PROTOCOL, server.serve)
        self._upgrade = DirectUpgrade(swarm, self.candidates, loopback=loopback) if config.hole_punching else None
        if self._upgrade is not None:
            protocols.serve_connection(dcutr.PROTOCOL, self._upgrade.serve)

    async def run(self) -> None:
        """Find out how this node is reached, and improve on it, until cancelled."""
        public = next(filter(addresses.is_public, self._own.configured()), None)
        if public is not None:
            self.reachability.set(State.PUBLIC, str(public))  # until peers who have tried say otherwise
        else:
            self.reachability.say()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.autonat.run)
            nursery.start_soon(self._watch)
            if self._mapping is not None:
                nursery.start_soon(self._mapping.run)
            if self._upgrade is not None:
                nursery.start_soon(self._upgrade.run)

    # ---- what others tell ----

    def identified(self, peer: ID) -> None:
        """`peer` has said who it is."""
        self.autonat.reconsider()
        connection = self._swarm.live(peer)
        if self._upgrade and connection is not None and connection.relayed and not connection.dialled:
            self._upgrade.begin(connection)

    def _on_observed(self, connection: Connection, observed: Multiaddr) -> None:
        before = self.observed.confirmed()
        self.observed.record(connection, observed, trusted=connection.peer in self._trusted)
        if self.observed.confirmed() != before:
            self._addresses_changed()

    def _addresses_changed(self) -> None:
        self._identify.changed()
        self.autonat.reconsider()

    async def _watch(self) -> None:
        known = set(self.candidates())
        while True:
            await trio.sleep(_LOOK_S)
            if (now := set(self.candidates())) != known:
                known = now
                self._addresses_changed()

    # ---- addresses ----

    def candidates(self) -> list[Multiaddr]:
        """Where others may perhaps dial this node: what it advertises without a relay, and where peers see it."""
        known = dict.fromkeys((*self._own.direct(), *self.observed.reported()))
        return [one for one in known if self._loopback or not addresses.is_local(one)]

    def _learnt(self) -> Sequence[Multiaddr]:
        """What is advertised besides the addresses of our interfaces: not where peers have failed to dial us."""
        mapped = [] if self._mapping is None else self._mapping.addresses()
        return mapped if self.reachability.state is State.PRIVATE else [*mapped, *self.observed.confirmed()]

    def _ports(self) -> list[str]:
        return [str(addresses.port_of(one)) for one in self._swarm.own_addresses()]

    def _unmapped(self) -> list[int]:
        """The ports that only a router's mapping makes public: those on private IPv4 addresses, when we have no public one."""
        own = [one for one in self._swarm.own_addresses() if not addresses.is_local(one)]
        if any(addresses.is_public(one) for one in own):
            return []
        return list(dict.fromkeys(addresses.port_of(one) for one in own if _is_ipv4(one)))

    def _servers(self) -> Iterable[Connection]:
        """Direct connections to peers that dial others back."""
        for connection in self._swarm.open_connections():
            if not connection.relayed and autonat.PROTOCOL in self._swarm.book.protocols_of(connection.peer):
                yield connection


def _is_ipv4(address: Multiaddr) -> bool:
    ip = addresses.ip_of(address)
    return ip is not None and ip.version == 4
