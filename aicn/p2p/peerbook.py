"""What is known of peers: upstream's peerstore, kept from forgetting whom it must not forget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr

from aicn.p2p.addresses import is_readable

AGENT, PROTOCOL = "AgentVersion", "ProtocolVersion"  # versions: the names under which go's peer store has them
_MOST_PEERS = 10_000
_MOST_ADDRESSES = 32  # of one peer: anybody may name addresses for anybody (DHT answers, identify)


class PeerBook(PeerStore):
    """Peers, their addresses, keys and protocols.

    Upstream (peer/peerstore.py:201, :456) evicts whoever has no addresses first, which is this node and its private key, lets the
    addresses of a connected peer expire (the peer cannot be found through us any more), and keeps any number of addresses, also
    ones that nobody can read (identity/update.py takes any bytes): whoever looked at them then would break.
    """

    def __init__(self) -> None:
        super().__init__(max_peers=_MOST_PEERS)
        self.is_connected: Callable[[ID], bool] = lambda _: False

    def add_addrs(self, peer_id: ID, addrs: Sequence[Multiaddr], ttl: int = 0) -> None:
        known = set(self.known(peer_id))
        room = max(0, _MOST_ADDRESSES - len(known))
        new = [address for address in addrs if address not in known and is_readable(address)][:room]
        super().add_addrs(peer_id, new, 0 if self.is_connected(peer_id) else ttl)

    def known(self, peer_id: ID) -> list[Multiaddr]:
        """Addresses of a peer; none when it is unknown or they expired."""
        data = self.peer_data_map.get(peer_id)
        if data is None or (data.is_expired() and not self.is_connected(peer_id)):
            return []
        return data.get_addrs()

    def protocols_of(self, peer_id: ID) -> list[str]:
        """What a peer has said it serves; nothing while it has said nothing."""
        data = self.peer_data_map.get(peer_id)
        return [] if data is None else data.get_protocols()

    def agent_of(self, peer_id: ID) -> str:
        """The program and version that a peer has said it is; empty while it has said nothing."""
        data = self.peer_data_map.get(peer_id)
        return "" if data is None else str(data.metadata.get(AGENT, ""))

    def addrs(self, peer_id: ID) -> list[Multiaddr]:
        if self.is_connected(peer_id):
            return self.known(peer_id)
        return super().addrs(peer_id)

    def _enforce_peer_limit(self) -> None:
        surplus = len(self.peer_data_map) - self.max_peers
        if surplus <= 0:
            return
        droppable = [
            (not data.is_expired(), bool(data.get_addrs()), data.get_last_identified(), number, peer)
            for number, (peer, data) in enumerate(self.peer_data_map.items())
            if data.privkey is None and not self.is_connected(peer)
        ]
        for *_, peer in sorted(droppable)[
            : surplus + self.max_peers // 100
        ]:  # some more, so that not every new peer sorts all
            self.clear_peerdata(peer)
