"""The DHT: where a peer is, by its id."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from libp2p.abc import INetStream
from libp2p.kad_dht import common
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.p2p.library import LibraryHost
from aicn.p2p.peerbook import PeerBook

_WIDTH = 20  # closest peers that a lookup considers: k of the Kademlia paper and of libp2p
_PARALLEL = 5  # questions at a time
_MOST_ASKED = 60  # peers per lookup
_AGAIN_S = 0.5  # before a lookup that found nothing is repeated: who just joined is known only after identify
_INBOUND = 256  # streams that ask us at a time
_IDLE_S = 60.0  # how long such a stream may live


class Dht(KadDHT):
    """Upstream's DHT with peers that only ask kept out of the routing table, and with lookups that end when they have found.

    Upstream takes whoever asks something for a server (kad_dht/kad_dht.py:632), so that each lookup asks peers who do not
    answer; serves twelve streams at once that may do nothing for ever (:327); and looks for a peer until the whole neighbourhood
    was asked (kad_dht/peer_routing.py:158).
    """

    def __init__(self, host: LibraryHost, book: PeerBook, *, server: bool) -> None:
        super().__init__(host, DHTMode.SERVER if server else DHTMode.CLIENT)
        self._book = book
        self._inbound_limiter = trio.CapacityLimiter(_INBOUND)

    async def add_peer(self, peer_id: ID, *, skip_server_mode_check: bool = False) -> bool:  # noqa: ARG002
        """Take a peer into the routing table if identify said that it serves the DHT, else out of it."""
        if self._serves(peer_id):
            return await super().add_peer(peer_id)
        self.routing_table.remove_peer(peer_id)
        return False

    async def identified(self, peer: ID) -> None:
        """Identify has told what `peer` serves."""
        await self.add_peer(peer)

    def _serves(self, peer: ID) -> bool:
        return str(common.PROTOCOL_ID) in self._protocols_of(peer)

    def _may_serve(self, peer: ID) -> bool:
        """Serves the DHT, or identify has not said yet."""
        return self._serves(peer) or not self._protocols_of(peer)

    def _protocols_of(self, peer: ID) -> list[str]:
        data = self._book.peer_data_map.get(peer)
        return [] if data is None else data.get_protocols()

    async def handle_stream(self, stream: INetStream) -> None:
        with trio.move_on_after(_IDLE_S) as deadline:
            await super().handle_stream(stream)
        if deadline.cancelled_caught:
            await stream.reset()

    async def find(self, peer: ID) -> None:
        """Look for further addresses of `peer`: afterwards the peer book has them, if anybody knew some."""
        before = set(self._book.known(peer))
        await self._look_up(peer, before)
        if before.issuperset(self._book.known(peer)):
            await trio.sleep(_AGAIN_S)
            await self._look_up(peer, before)

    async def _look_up(self, peer: ID, before: set[Multiaddr]) -> None:
        near = set(self.routing_table.find_local_closest_peers(peer.to_bytes(), _WIDTH))
        near.update(one for one in self.host.get_connected_peers() if self._may_serve(one))
        asked = {self.local_peer_id, peer}
        while len(asked) < _MOST_ASKED and (wave := self._closest(peer, near, asked)):
            asked.update(wave)
            async with trio.open_nursery() as nursery:
                for one in wave:
                    nursery.start_soon(self._ask, one, peer, near, before, nursery.cancel_scope)
            if not before.issuperset(self._book.known(peer)):
                return

    def _closest(self, peer: ID, near: Iterable[ID], asked: set[ID]) -> list[ID]:
        closest = sort_peer_ids_by_distance(peer.to_bytes(), list(near))[:_WIDTH]
        return [one for one in closest if one not in asked][:_PARALLEL]

    async def _ask(self, one: ID, peer: ID, near: set[ID], before: set[Multiaddr], lookup: trio.CancelScope) -> None:
        near.update(await self.peer_routing._query_peer_for_closest(one, peer.to_bytes()))  # noqa: SLF001
        if not before.issuperset(self._book.known(peer)):
            lookup.cancel()
