"""One walk towards a key, sans-io: whom to ask next (libp2p specs, kad-dht, "Peer routing")."""

from __future__ import annotations

from collections.abc import Iterable

from libp2p.peer.id import ID

from aicn.p2p.dht.table import WIDTH, nearest

MOST_ASKED = 60  # peers per walk; a network of a million nodes needs about 25


class Lookup:
    """Asks the nearest peers that are known, whom these name next, and so on until the nearest `WIDTH` have been asked."""

    def __init__(self, key: bytes, known: Iterable[ID], *, skip: Iterable[ID]) -> None:
        self._key = key
        self._known = set(known)
        self._asked = set(skip)
        self._left = MOST_ASKED
        self._failed: set[ID] = set()
        self._answered: set[ID] = set()

    def learn(self, peers: Iterable[ID]) -> None:
        """These exist, somebody says. Beyond the width only nearer ones are kept: an answer cannot make a walk endless."""
        self._known = set(nearest(self._key, self._known.union(peers) - self._failed, 3 * WIDTH))

    def next(self) -> ID | None:
        """Whom to ask; None: nobody, for now or, when no question is open, at all."""
        if not self._left:
            return None
        for peer in nearest(self._key, self._known - self._failed):
            if peer not in self._asked:
                self._asked.add(peer)
                self._left -= 1
                return peer
        return None

    def answered(self, peer: ID) -> None:
        self._answered.add(peer)

    def failed(self, peer: ID) -> None:
        self._failed.add(peer)

    def closest(self) -> list[ID]:
        """The nearest peers that have answered, the nearest first."""
        return nearest(self._key, self._answered)
