"""The routing table, sans-io: whom to ask about a key (libp2p specs, kad-dht, "Kademlia routing table").

A member is a peer that is connected and of which identify said that it serves the DHT; who takes members in and out sees to that.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from libp2p.peer.id import ID

WIDTH = 20  # peers per bucket, and peers that are responsible for a key: k of the spec


def position(key: bytes) -> int:
    """Where a key is in the DHT's space of 256 bits; a peer is where its id's bytes are (`ID.xor_id`)."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


def nearest(key: bytes, peers: Iterable[ID], count: int = WIDTH) -> list[ID]:
    """The `count` of `peers` that are nearest to `key`, the nearest first."""
    target = position(key)
    return heapq.nsmallest(count, peers, key=lambda peer: peer.xor_id ^ target)


class RoutingTable:
    """Peers by how many leading bits their position has in common with ours, at most `WIDTH` for each such number.

    A full bucket keeps whom it has: they are connected, and a newcomer may be one of many that one machine made up.
    """

    def __init__(self, own: ID) -> None:
        self._own = own
        self._buckets: dict[int, set[ID]] = {}

    def __contains__(self, peer: ID) -> bool:
        return peer in self._buckets.get(self._common_bits(peer), ())

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, peer: ID) -> bool:
        """Take a peer in; whether it is a member now."""
        if peer == self._own:
            return False
        bucket = self._buckets.setdefault(self._common_bits(peer), set())
        if len(bucket) < WIDTH:
            bucket.add(peer)
        return peer in bucket

    def remove(self, peer: ID) -> None:
        """Take a peer out, if it is in."""
        self._buckets.get(self._common_bits(peer), set()).discard(peer)

    def nearest(self, key: bytes, count: int = WIDTH) -> list[ID]:
        """The members that are nearest to `key`, the nearest first."""
        return nearest(key, (peer for bucket in self._buckets.values() for peer in bucket), count)

    def _common_bits(self, peer: ID) -> int:
        return 256 - (self._own.xor_id ^ peer.xor_id).bit_length()
