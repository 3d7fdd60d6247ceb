"""Which addresses have failed lately and are left alone for now."""

from __future__ import annotations

from dataclasses import dataclass

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

FIRST_S = 1.0  # after an address refused at once; one that kept us waiting is left alone at least as long as it did
LONGEST_S = 30.0  # a node that comes back is found again within this time, however long it was gone
_MOST_PEERS = 1024  # remembered; hostile records may name any number, but no more than 32 addresses each (peerbook.py)


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
        self._pauses: dict[ID, dict[Multiaddr | None, Pause]] = {}  # the peer that failed last at the end

    def failed(self, peer: ID, address: Multiaddr | None, *, took_s: float, reason: str = "") -> None:
        """An attempt that took `took_s` seconds has failed: no other one for as long, doubled with each failure in a row."""
        pauses = self._pauses.pop(peer, {})
        before = pauses.get(address)
        failures = 1 if before is None else before.failures + 1
        pause_s = min(LONGEST_S, max(FIRST_S, took_s) * 2 ** min(failures - 1, 10))
        pauses[address] = Pause(trio.current_time() + pause_s, failures, reason)
        self._pauses[peer] = pauses
        if len(self._pauses) > _MOST_PEERS:
            del self._pauses[next(iter(self._pauses))]

    def pause(self, peer: ID, address: Multiaddr | None) -> Pause | None:
        """Why the address is left alone now; None: it may be tried."""
        pauses = self._pauses.get(peer)
        pause = None if pauses is None else pauses.get(address)
        return pause if pause is not None and pause.until > trio.current_time() else None

    def forget(self, peer: ID) -> None:
        """The peer was reached, or has reached us."""
        self._pauses.pop(peer, None)
