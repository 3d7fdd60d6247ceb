"""How near peers are, and who comes and goes (services/ports.Links).

`Connectivity` is meant as go-libp2p means it: a connection now, or the last thing that happened with the peer, if it is not long ago.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnError

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.errors import AicnError
from aicn.p2p.opening import id_of
from aicn.p2p.swarm import Swarm

RECENT_S = 600.0  # how long it counts that a peer was connected, or could not be reached
_MOST_REMEMBERED = 4096  # peers of which that is known; the one heard of longest ago is forgotten
_PONG_S = 5.0  # for a peer to answer a ping; the muxer gives a silent one up after as long

Tell = Callable[[PeerId], None]


class Links:
    """What the swarm's connections and dials say of how peers can be reached."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self._own = swarm.own_id
        self._last: dict[
            ID, tuple[Connectivity, float]
        ] = {}  # how it ended the last time, and when; the newest at the end
        self._identified: set[ID] = set()  # connected peers
        self._joined: list[Tell] = []
        self._lost: list[Tell] = []
        swarm.on_unreachable(lambda peer: self._remember(peer, Connectivity.CANNOT_CONNECT))

    def link(self, peer: PeerId) -> Link:
        """What is known now, without asking anybody. This node itself is CONNECTED."""
        found = id_of(peer)
        if found == self._own:
            return Link(Connectivity.CONNECTED, 0.0)
        connection = self._swarm.live(found)
        if connection is not None:
            return Link(Connectivity.CONNECTED, connection.muxer.rtt or 0.0, relayed=connection.relayed)
        if self._swarm.is_connected(found):  # by a connection that is about to end
            return Link(Connectivity.CAN_CONNECT, 0.0)
        how, when = self._last.get(found, (Connectivity.NOT_CONNECTED, 0.0))
        recent = trio.current_time() - when < RECENT_S
        return Link(how if recent else Connectivity.NOT_CONNECTED, 0.0)

    async def measure(self, peer: PeerId) -> Link:
        """Connect if need be, and ping. A peer that does not answer is CANNOT_CONNECT; nothing is raised."""
        found = id_of(peer)
        if found != self._own:
            try:
                connection = await self._swarm.connect(found, lookup=True)
                with trio.fail_after(_PONG_S):
                    await connection.muxer.ping()
            except (AicnError, MuxedConnError, trio.TooSlowError):
                return Link(Connectivity.CANNOT_CONNECT, 0.0)
        return self.link(peer)

    def protocols_of(self, peer: PeerId) -> frozenset[str]:
        """What identify has told that the peer serves, now or when it was last connected; empty when it has told nothing (yet)."""
        return frozenset(self._swarm.book.protocols_of(id_of(peer)))

    def is_identified(self, peer: PeerId) -> bool:
        """Whether the peer is connected, and identify has told since then what it serves."""
        return id_of(peer) in self._identified

    def agent_of(self, peer: PeerId) -> str:
        """The program and version that identify has told; empty when it has told nothing (yet)."""
        return self._swarm.book.agent_of(id_of(peer))

    def on_joined(self, tell: Tell) -> None:
        """Call `tell` whenever identify has told what a connected peer serves: once after connecting, and when that changes."""
        self._joined.append(tell)

    def on_lost(self, tell: Tell) -> None:
        """Call `tell` whenever the last connection to a peer has ended."""
        self._lost.append(tell)

    # ---- told by the host ----

    def identified(self, peer: ID) -> None:
        """Identify has told what `peer` serves."""
        if self._swarm.is_connected(peer):
            self._identified.add(peer)
            for tell in self._joined:
                tell(PeerId(str(peer)))

    def disconnected(self, peer: ID) -> None:
        """The last connection to `peer` has ended."""
        self._identified.discard(peer)
        self._remember(peer, Connectivity.CAN_CONNECT)
        for tell in self._lost:
            tell(PeerId(str(peer)))

    def _remember(self, peer: ID, how: Connectivity) -> None:
        self._last.pop(peer, None)
        self._last[peer] = how, trio.current_time()
        if len(self._last) > _MOST_REMEMBERED:
            del self._last[next(iter(self._last))]
