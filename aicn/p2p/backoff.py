"""Which addresses have failed lately and are left alone for now."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

FIRST_S = 1.0  # after an address refused at once; one that kept us waiting is left alone at least as long as it did
LONGEST_S = 30.0  # a node that comes back is found again within this time, however long it was gone
_MOST_ENTRIES = 4096  # peers and addresses remembered; hostile records may name any number

_Key = tuple[ID, Multiaddr | None]


@dataclass(frozen=True, slots=True)
class Pause:
    """An address that is left alone."""

    until: float  # trio's clock
    failures: int  # in a row
    reason: str  # what went wrong the last time


class Backoff:
    """Failures per peer and address; None in the place of an address is the lookup of the peer in the DHT.

    Per peer as well, because anybody may say that somebody else's address is his: it fails for him only.
    """

    def __init__(self) -> None:
        self._pauses: dict[_Key, Pause] = {}  # the one that failed last at the end

    def failed(self, peer: ID, address: Multiaddr | None, *, took_s: float, reason: str = "") -> None:
        """An attempt that took `took_s` seconds has failed: no other one for as long, doubled with each failure in a row."""
        before = self._pauses.pop((peer, address), None)
        failures = 1 if before is None else before.failures + 1
        pause_s = min(LONGEST_S, max(FIRST_S, took_s) * 2 ** min(failures - 1, 10))
        self._pauses[peer, address] = Pause(trio.current_time() + pause_s, failures, reason)
        if len(self._pauses) > _MOST_ENTRIES:
            del self._pauses[next(iter(self._pauses))]

    def pause(self, peer: ID, address: Multiaddr | None) -> Pause | None:
        """Why the address is left alone now; None: it may be tried."""
        pause = self._pauses.get((peer, address))
        return pause if pause is not None and pause.until > trio.current_time() else None

    def forget(self, peer: ID) -> None:
        """The peer was reached, or has reached us."""
        for key in [key for key in self._pauses if key[0] == peer]:
            del self._pauses[key]
