"""Where peers see this node: the addresses that identify of others reports of us.

A report is what the other end of a connection has as our address. What it says about the port on which we listen depends on our
end: when the connection uses the listening port (they dialled us, or we dialled from it, see reuse.py), it is the listening port's
mapping and taken as it is; when we dialled from another port, only the IP address says something, and the listening port is put
behind it: right where the router keeps ports or forwards ours, and AutoNAT finds out whether it is.

An address counts once peers with CONFIRMATIONS different IP addresses report it (go-libp2p, p2p/host/observedaddrs), or one peer
that the user configured. One report per connection; it is kept while the connection lasts and REMEMBERED_S longer.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio
from multiaddr import Multiaddr

from aicn.p2p import addresses
from aicn.p2p.addresses import Address
from aicn.p2p.connection import Connection

CONFIRMATIONS = 4  # as many lying peers with addresses of their own it takes to make us say something wrong
REMEMBERED_S = 1800.0
_MOST_REPORTS = 1024  # the oldest are dropped
_MOST_ADDRESSES = 4  # given out: a node behind one router has one or two


@dataclass
class _Report:
    observer: Address | ipaddress.IPv6Network
    address: Multiaddr
    until: float  # when it is forgotten, once the connection has ended
    trusted: bool
    connection: Connection


class ObservedAddresses:
    """Counts the reports. `listening` gives the addresses on which this node listens, 0.0.0.0 and :: expanded."""

    def __init__(self, listening: Callable[[], list[Multiaddr]], *, loopback: bool = False) -> None:
        self._listening = listening
        self._loopback = loopback  # take those as well: for tests
        self._reports: dict[int, _Report] = {}  # by the number of the connection

    def record(self, connection: Connection, observed: Multiaddr, *, trusted: bool) -> None:
        """The peer at the other end of `connection` sees us as `observed`; `trusted`: the user configured it."""
        observer = addresses.ip_of(connection.remote) if connection.remote is not None else None
        address = self._of_listener(connection, observed)
        if observer is None or address is None:
            return
        self._reports.pop(connection.number, None)
        self._reports[connection.number] = _Report(
            _group(observer), address, trio.current_time() + REMEMBERED_S, trusted, connection
        )
        while len(self._reports) > _MOST_REPORTS:
            del self._reports[next(iter(self._reports))]

    def _of_listener(self, connection: Connection, observed: Multiaddr) -> Multiaddr | None:
        """The address of our listening port that `observed` speaks for; None when it says nothing that we could tell others."""
        if not addresses.diallable(observed):
            return None
        ip = addresses.ip_of(observed)
        if ip is None or ip.is_unspecified or ip.is_multicast or ip.is_link_local or (ip.is_loopback > self._loopback):
            return None
        own = [one for one in self._listening() if _version(one) == ip.version]
        ports = [addresses.port_of(one) for one in own]
        if not ports:
            return None
        local = connection.local
        kept = local is not None and addresses.port_of(local) in ports
        port = addresses.port_of(observed) if kept else ports[0]
        address = Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}")
        return None if address in own else address

    def confirmed(self) -> list[Multiaddr]:
        """The addresses that enough peers report, the most reported first."""
        counts = self._count()
        return [one for one, count in counts.most_common(_MOST_ADDRESSES) if count >= CONFIRMATIONS]

    def reported(self) -> list[Multiaddr]:
        """The addresses that anybody reports, the most reported first: good enough for trying."""
        return [one for one, _ in self._count().most_common(_MOST_ADDRESSES)]

    def _count(self) -> Counter[Multiaddr]:
        """How many observers report each address; a trusted one counts for all that are needed."""
        now = trio.current_time()
        self._reports = {
            number: one for number, one in self._reports.items() if one.until > now or not one.connection.is_closed
        }
        observers: dict[Multiaddr, dict[object, int]] = {}
        for one in self._reports.values():
            weight = CONFIRMATIONS if one.trusted else 1
            known = observers.setdefault(one.address, {})
            known[one.observer] = max(weight, known.get(one.observer, 0))
        return Counter({address: sum(known.values()) for address, known in observers.items()})


def _group(ip: Address) -> Address | ipaddress.IPv6Network:
    """Who counts as one observer: an IPv4 address, or the /56 that one customer gets of IPv6."""
    return ip if ip.version == 4 else ipaddress.IPv6Network((ip, 56), strict=False)


def _version(address: Multiaddr) -> int | None:
    ip = addresses.ip_of(address)
    return None if ip is None else ip.version
