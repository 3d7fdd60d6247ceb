"""What each client address has of something, and how much of it one may have: no single one takes what is there for all."""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache

from aicn.errors import Busy

ANYBODY = ""  # the client of loopback: this machine's programs, and reverse proxies that stand for anybody
LITTLE = (
    64 * 1024
)  # bytes: a long conversation in text. A body of no more is taken although others have filled the room
_IPV6_NETWORK = 64  # bits: what one subscriber has at least, so that one address of it says nothing


@lru_cache(maxsize=4096)
def client_of(host: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 network; ANYBODY for loopback.

    `host` is a socket's peer address, where a link-local one may name its interface ("fe80::1%eth0").
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address  # how a socket that listens on [::] sees IPv4
    if address.is_loopback:
        return ANYBODY
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), _IPV6_NETWORK), strict=False))


class Shares:
    """Counts what clients have; each but ANYBODY may have `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: Counter[str] = Counter()

    def add(self, client: str) -> bool:
        """One more for `client`, until `remove`; whether it now has more than it may (it is counted all the same)."""
        if client == ANYBODY:
            return False
        self._counts[client] += 1
        return self._counts[client] > self.most

    def remove(self, client: str) -> None:
        """One less."""
        if client == ANYBODY:
            return
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


class Bodies:
    """Counts bytes of request bodies that are held, arriving or at work, over all clients."""

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most

    def add(self, size: int, *, own: int) -> None:
        """`size` more bytes are held, until `release`, and the request then has `own`; Busy when that is too much (they are
        counted all the same)."""
        self.held += size
        if self.held > self._most and own > LITTLE:
            raise Busy("too many large requests are at work at once")

    def release(self, size: int) -> None:
        """`size` bytes are no longer held."""
        self.held -= size
