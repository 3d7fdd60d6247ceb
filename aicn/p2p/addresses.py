"""Multiaddrs: what they name, which of them are worth dialling first, and what this node may tell others."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

import psutil
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError
from multiaddr.protocols import P_P2P

from aicn.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_DNS = ("dns", "dns4", "dns6", "dnsaddr")
_DIALLABLE = {"ip4", "ip6", "tcp", "p2p", *_DNS}


def parse(text: str, *, field: str = "address") -> Multiaddr:
    """`text` as a multiaddr; InvalidRequest naming `field`."""
    try:
        return Multiaddr(text)
    except (MultiaddrError, ValueError, TypeError, KeyError):
        raise InvalidRequest(f"{field}: not a multiaddr: {text[:200]!r}") from None


def split_peer(text: str, *, field: str = "address") -> tuple[ID, Multiaddr]:
    """The peer and the transport address of a multiaddr that ends in /p2p/<id>. InvalidRequest naming `field`."""
    address = parse(text, field=field)
    parts = [(protocol.name, value) for protocol, value in address.items()]
    if not parts or parts[-1][0] != "p2p":
        raise InvalidRequest(f"{field}: a multiaddr that ends in /p2p/<peer id> is needed, not {text[:200]!r}")
    transport = address.decapsulate_code(P_P2P)
    if not diallable(transport):
        raise InvalidRequest(f"{field}: only TCP addresses can be dialled, not {text[:200]!r}")
    return ID.from_base58(str(parts[-1][1])), transport


def diallable(address: Multiaddr) -> bool:
    """Whether the TCP transport can dial it: an IP address or name and a port, nothing more than the peer behind it."""
    names = [protocol.name for protocol in address.protocols()]
    return len(names) >= 2 and names[0] != "tcp" and names[1] == "tcp" and _DIALLABLE.issuperset(names)


def ip_of(address: Multiaddr) -> Address | None:
    """The IP address it begins with, if it does."""
    protocol, value = next(iter(address.items()))
    return ipaddress.ip_address(str(value)) if protocol.name in ("ip4", "ip6") else None


def is_public(address: Multiaddr) -> bool:
    """Whether the whole internet may reach it: a global IP address, or a name."""
    ip = ip_of(address)
    return ip is None or ip.is_global


def without_peer(address: Multiaddr) -> Multiaddr:
    """The transport part of an address."""
    return address.decapsulate_code(P_P2P)


def rank(address: Multiaddr) -> int:
    """Order of dialling: global addresses and names, private ones, loopback."""
    ip = ip_of(address)
    if ip is None or ip.is_global:
        return 0
    return 2 if ip.is_loopback else 1


def from_socket(name: tuple[str | int, ...]) -> Multiaddr:
    """The multiaddr of a TCP socket's name: (host, port) of IPv4, (host, port, flow, scope) of IPv6."""
    host, port = str(name[0]).split("%")[0], name[1]
    ip = ipaddress.ip_address(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}")


def expand(listening: Sequence[Multiaddr]) -> list[Multiaddr]:
    """The addresses that 0.0.0.0 and :: stand for on this machine's interfaces, in place of them; others as they are."""
    return list(dict.fromkeys(one for address in listening for one in _expand_one(address)))


def _expand_one(address: Multiaddr) -> Iterable[Multiaddr]:
    ip = ip_of(address)
    if ip is None or not ip.is_unspecified:
        return [address]
    port = address.value_for_protocol("tcp")
    return [
        Multiaddr(f"/ip{own.version}/{own}/tcp/{port}") for own in _interface_addresses() if own.version == ip.version
    ]


def _interface_addresses() -> list[Address]:
    """This machine's addresses, loopback last; link-local IPv6 is left out: nobody else can use it without a zone."""
    found = [
        ipaddress.ip_address(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6) and "%" not in entry.address
    ]
    return sorted((ip for ip in found if not ip.is_link_local), key=lambda ip: (ip.is_loopback, ip.version, int(ip)))
