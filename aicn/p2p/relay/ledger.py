"""What a relay has promised to whom: reservations and circuits, held against their limits. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from libp2p.peer.id import ID

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the relay gives."""

    reservations: int = 1024
    reservations_per_ip: int = 64
    circuits: int = 4096
    circuits_per_peer: int = 256  # at either end
    circuit_s: float = 0.0  # how long one may last; 0: for ever
    circuit_bytes: int = 0  # that one may carry in each direction; 0: any number
    reservation_s: float = 3600.0  # as go-libp2p has it


@dataclass(frozen=True, slots=True)
class _Reservation:
    ip: str
    expires: float


class Ledger:
    """Reservations by peer and circuits by pair. Times are those of any one clock, in seconds."""

    def __init__(self, limits: Limits, is_connected: Callable[[ID], bool]) -> None:
        self.limits = limits
        self._is_connected = is_connected  # a place is for a peer that we can reach
        self._reservations: dict[ID, _Reservation] = {}
        self._by_ip: Counter[str] = Counter()
        self._circuits: Counter[ID] = Counter()  # by each of their ends
        self.circuits = 0

    @property
    def reservations(self) -> int:
        """How many there are, lapsed ones included that nobody has asked about yet."""
        return len(self._reservations)

    def reserve(self, peer: ID, ip: str, now: float) -> bool:
        """Keep a place for `peer`, or keep it on, for `reservation_s` from now; False when there is no room."""
        self._drop(peer)
        if self._crowded(ip):
            self._sweep(now)
            if self._crowded(ip):
                return False
        self._reservations[peer] = _Reservation(ip, now + self.limits.reservation_s)
        self._by_ip[ip] += 1
        return True

    def holds(self, peer: ID, now: float) -> bool:
        """Whether `peer` has a place."""
        reservation = self._reservations.get(peer)
        if reservation is not None and self._lapsed(peer, reservation, now):
            self._drop(peer)
            return False
        return reservation is not None

    def open(self, source: ID, target: ID) -> bool:
        """Count a circuit; False when there is no room for it."""
        most = self.limits.circuits_per_peer
        if self.circuits >= self.limits.circuits or max(self._circuits[source], self._circuits[target]) >= most:
            return False
        self.circuits += 1
        self._circuits.update((source, target))
        return True

    def close(self, source: ID, target: ID) -> None:
        """A circuit that `open` has counted is over."""
        self.circuits -= 1
        for peer in (source, target):
            _count_down(self._circuits, peer)

    def _crowded(self, ip: str) -> bool:
        return len(self._reservations) >= self.limits.reservations or self._by_ip[ip] >= self.limits.reservations_per_ip

    def _lapsed(self, peer: ID, reservation: _Reservation, now: float) -> bool:
        return reservation.expires <= now or not self._is_connected(peer)

    def _sweep(self, now: float) -> None:
        for peer in [peer for peer, one in self._reservations.items() if self._lapsed(peer, one, now)]:
            self._drop(peer)

    def _drop(self, peer: ID) -> None:
        reservation = self._reservations.pop(peer, None)
        if reservation is not None:
            _count_down(self._by_ip, reservation.ip)


def _count_down(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
