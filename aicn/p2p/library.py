"""The library's host, fitted into our nurseries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.p2p import addresses
from aicn.p2p.identify import Identify
from aicn.p2p.protocols import Protocols
from aicn.p2p.swarm import Swarm


class LibraryHost(BasicHost):
    """What identify, ping and relay take for the host.

    In place of what upstream's does: identify is ours (identify.py) and runs in the swarm's nursery, not in system tasks
    (host/basic_host.py:1183), and again after each connecting, not only while the peer is unknown (:1218); 0.0.0.0 is not advertised.
    """

    def __init__(
        self, swarm: Swarm, protocols: Protocols, *, announce: Sequence[Multiaddr], agent_version: str
    ) -> None:
        self._swarm = swarm
        self._announce = tuple(announce)
        self.circuits: Callable[[], Sequence[Multiaddr]] = tuple  # this node's addresses through relays
        self.learnt: Callable[[], Sequence[Multiaddr]] = tuple  # what peers and routers say of this node's addresses
        self.identified: Callable[[ID], Awaitable[None]] | None = None  # told of each peer that has said who it is
        super().__init__(swarm, disable_identify_address_discovery=True)
        protocols.attach(self.multiselect)
        self.identify = Identify(self, swarm, swarm.book, protocols, agent_version=agent_version)
        self.identify.updated = self._tell_identified

    def advertised(self) -> list[Multiaddr]:
        """Where others may reach this node, without its peer id."""
        return [*self.direct(), *self.circuits()]

    def direct(self) -> list[Multiaddr]:
        """Those of them that do not lead through a relay."""
        return list(self._announce) or list(dict.fromkeys((*self.configured(), *self.learnt())))

    def configured(self) -> list[Multiaddr]:
        """Those of them for which nobody's word is needed: announced, or of our interfaces."""
        return list(self._announce) or self._swarm.own_addresses()

    def get_addrs(self) -> list[Multiaddr]:
        suffix = Multiaddr(f"/p2p/{self.get_id()}")
        return [addresses.without_peer(one).encapsulate(suffix) for one in self.advertised()]

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        if peer_id not in self._identify_inflight and peer_id not in self._identified_peers:
            self._identify_inflight.add(peer_id)
            self._swarm.nursery.start_soon(self._identify_task_entry, peer_id, reason)

    async def _identify_peer(self, peer_id: ID, *, reason: str) -> None:
        connection = self._swarm.live(peer_id)
        if connection is not None and await self.identify.ask(connection) and not connection.is_closed:
            self._identified_peers[peer_id] = reason
            await self._tell_identified(peer_id)

    async def _tell_identified(self, peer_id: ID) -> None:
        if self.identified is not None:
            await self.identified(peer_id)
