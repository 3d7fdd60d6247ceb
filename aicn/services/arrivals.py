"""Room for requests that have not arrived whole: what strangers may make this node hold before they have asked for anything."""

from __future__ import annotations

from collections import defaultdict

from aicn.domain.ids import PeerId
from aicn.errors import Busy

_LITTLE = (
    64 * 1024
)  # bytes: a long conversation in text; who holds no more is let in although others have filled the room
_AGAIN_S = 1.0  # advice to who was refused: large requests arrive or end within seconds


class Arrivals:
    """Counts bytes of incomplete requests, over all peers and of each."""

    def __init__(self, *, total: int, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._held = 0
        self._by_peer: defaultdict[PeerId, int] = defaultdict(int)

    def add(self, peer: PeerId, size: int) -> None:
        """`size` more bytes of `peer` are held, until `release`; Busy when that is too much (they are counted all the same)."""
        self._held += size
        self._by_peer[peer] += size
        own = self._by_peer[peer]
        if own > self._per_peer or (self._held > self._total and own > _LITTLE):
            raise Busy("too many large requests are arriving at once", retry_after=_AGAIN_S)

    def release(self, peer: PeerId, size: int) -> None:
        """`size` bytes of `peer` are no longer held here."""
        self._held -= size
        self._by_peer[peer] -= size
        if not self._by_peer[peer]:
            del self._by_peer[peer]
