"""Who announced to us that it provides a key, sans-io (libp2p specs, kad-dht, "Content provider advertisement")."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from libp2p.peer.id import ID

_A = TypeVar("_A")
_B = TypeVar("_B")

VALID_S = 48 * 3600.0  # seconds a record is kept: as go, which announces again every 22 h
MOST_RECORDS = 50_000  # in all: about 10 MB
MOST_PER_KEY = 2_000  # all nodes of a network provide its rendezvous
MOST_PER_PEER = 256  # keys of one provider; our nodes have one or two


class ProviderStore:
    """Records in the order in which they came. Over a bound the oldest record within that bound makes room."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[bytes, ID], float] = OrderedDict()
        self._by_key: dict[bytes, dict[ID, None]] = {}
        self._by_peer: dict[ID, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, key: bytes, peer: ID, now: float) -> None:
        """`peer` itself said that it provides `key`."""
        self._remove(key, peer)
        peers, keys = self._by_key.get(key, {}), self._by_peer.get(peer, {})
        if len(keys) >= MOST_PER_PEER:
            self._remove(next(iter(keys)), peer)
        if len(peers) >= MOST_PER_KEY:
            self._remove(key, next(iter(peers)))
        if len(self._until) >= MOST_RECORDS:
            self._remove(*next(iter(self._until)))
        self._until[key, peer] = now + VALID_S
        self._by_key.setdefault(key, {})[peer] = None
        self._by_peer.setdefault(peer, {})[key] = None

    def providers(self, key: bytes, now: float) -> list[ID]:
        """Who provides `key`, the latest announcement last."""
        self._expire(now)
        return list(self._by_key.get(key, ()))

    def _expire(self, now: float) -> None:
        while self._until:
            record, until = next(iter(self._until.items()))
            if until > now:
                return
            self._remove(*record)

    def _remove(self, key: bytes, peer: ID) -> None:
        if self._until.pop((key, peer), None) is None:
            return
        _discard(self._by_key, key, peer)
        _discard(self._by_peer, peer, key)


def _discard(index: dict[_A, dict[_B, None]], one: _A, other: _B) -> None:
    entries = index[one]
    del entries[other]
    if not entries:
        del index[one]
