"""How many may come in: places for inbound connections, in all and per address, and for handshakes."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from aicn.errors import Busy
from aicn.p2p.addresses import Address

_OUTBOUND_SHARE = 8  # one place in so many is kept for connections that we dial
_IPV6_NETWORK = 64  # bits: what one subscriber has at least, so that one address of it says nothing


def outbound_room(connections: int) -> int:
    """How many of `connections` places no inbound connection may take."""
    return max(1, connections // _OUTBOUND_SHARE)


class Door:
    """The places of inbound connections, each held from accepting until the connection has ended.

    Loopback addresses have no limit of their own, as in go-libp2p: behind them are this machine's processes, and proxies that stand
    for anybody.
    """

    def __init__(self, places: int, *, per_ip: int) -> None:
        self._free = places
        self._per_ip = per_ip
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, ip: Address | None) -> Iterator[None]:
        """A place for a connection from `ip` while the block runs (None: it came over a relay). Busy."""
        key = _network(ip)
        if self._free <= 0:
            raise Busy("all places for inbound connections are taken")
        if key and self._taken[key] >= self._per_ip:
            raise Busy(f"{key} has {self._per_ip} connections already")
        self._free -= 1
        self._taken[key] += 1
        try:
            yield
        finally:
            self._free += 1
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Handshakes:
    """The inbound connections that are not secured yet. Where there is no room, the one that has taken longest makes it.

    An honest peer needs a few round trips. Those who hold half a handshake open, which costs them nothing, only push out each other.
    """

    def __init__(self, most: int, *, deadline_s: float) -> None:
        self._most = most
        self._deadline_s = deadline_s
        self._running: dict[trio.CancelScope, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._running)

    @contextmanager
    def one(self) -> Iterator[None]:
        """The block is one handshake. Busy when it was pushed out, trio.TooSlowError when it took too long."""
        if len(self._running) >= self._most:
            oldest = next(iter(self._running))
            del self._running[oldest]
            oldest.cancel()
        with trio.CancelScope(deadline=trio.current_time() + self._deadline_s) as scope:
            self._running[scope] = None
            try:
                yield
            finally:
                pushed_out = scope not in self._running
                self._running.pop(scope, None)
        if scope.cancelled_caught:
            raise Busy("too many handshakes at once") if pushed_out else trio.TooSlowError


def _network(ip: Address | None) -> str:
    """What counts as one address: an IPv4 address, an IPv6 network; "" for what has no limit of its own."""
    if ip is None or ip.is_loopback:
        return ""
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((int(ip), _IPV6_NETWORK), strict=False))
