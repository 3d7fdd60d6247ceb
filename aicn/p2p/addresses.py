"""Multiaddrs: what they name, which of them are worth dialling first, and what this node may tell others."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

import psutil
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError
from multiaddr.protocols import P_P2P, P_P2P_CIRCUIT

from aicn.errors import InvalidRequest, ProtocolViolation

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_DIALLABLE = {"ip4", "ip6", "dns", "dns4", "dns6", "tcp", "p2p"}
_LONGEST = (
    1024  # bytes: a circuit has two names of at most 253; the library needs 0.15 s for 64 KiB of junk, 20 s for a MiB
)


def parse(text: str, *, field: str = "address") -> Multiaddr:
    """`text` as a multiaddr; InvalidRequest naming `field`."""
    try:
        return Multiaddr(text)
    except (MultiaddrError, ValueError, TypeError, KeyError):
        raise InvalidRequest(f"{field}: not a multiaddr: {text[:200]!r}") from None


def split_peer(text: str, *, field: str = "address") -> tuple[ID, Multiaddr]:
    """The peer and the transport address of a multiaddr that ends in /p2p/<id>. InvalidRequest naming `field`."""
    address = parse(text, field=field)
    peer = peer_of(address)
    if peer is None:
        raise InvalidRequest(f"{field}: a multiaddr that ends in /p2p/<peer id> is needed, not {text[:200]!r}")
    transport = without_peer(address)
    if not diallable(transport):
        raise InvalidRequest(f"{field}: only TCP addresses and circuits over them can be dialled, not {text[:200]!r}")
    return peer, transport


def named_peer(text: str, *, field: str = "address") -> ID:
    """The peer that a multiaddr ends in, whatever leads to it, or whose bare id `text` is. InvalidRequest naming `field`."""
    peer = peer_of(parse(text if text.startswith("/") else f"/p2p/{text}", field=field))
    if peer is None:
        raise InvalidRequest(f"{field}: a multiaddr that ends in /p2p/<peer id> is needed, not {text[:200]!r}")
    return peer


def diallable(address: Multiaddr) -> bool:
    """Whether we can dial it: an IP address or name, a port, and a peer; or a relay that can be dialled so, and a circuit.

    A circuit's relay may also be named by its peer id alone: /p2p/<relay>/p2p-circuit. False too for what is not readable.
    """
    if not is_readable(address):
        return False
    try:
        names = [protocol.name for protocol in address.protocols()]
        transport = relay_of(address)[1] if is_circuit(address) else None
    except (MultiaddrError, ValueError, ProtocolViolation):
        return False
    if "p2p-circuit" in names:
        return transport is None or diallable(transport)
    return len(names) >= 2 and names[0] != "tcp" and names[1] == "tcp" and _DIALLABLE.issuperset(names)


def ip_of(address: Multiaddr) -> Address | None:
    """The IP address it begins with, if it does."""
    protocol, value = next(iter(address.items()))
    return ipaddress.ip_address(str(value)) if protocol.name in ("ip4", "ip6") else None


def port_of(address: Multiaddr) -> int:
    """The TCP port of an address that has one."""
    return int(str(address.value_for_protocol("tcp")))


def is_public(address: Multiaddr) -> bool:
    """Whether the whole internet may reach it without help: a global IP address, or a name."""
    ip = ip_of(address)
    return (ip is None or ip.is_global) and not is_circuit(address)


def is_local(address: Multiaddr) -> bool:
    """Whether it can only lead to this very machine."""
    ip = ip_of(address)
    return ip is not None and (ip.is_loopback or ip.is_unspecified)


def peer_of(address: Multiaddr) -> ID | None:
    """The peer that an address ends in, if it does."""
    parts = address.split()
    return _id_in(parts[-1]) if parts else None


def _id_in(part: Multiaddr) -> ID | None:
    ((protocol, value),) = part.items()
    return ID.from_base58(str(value)) if protocol.code == P_P2P else None


def without_peer(address: Multiaddr) -> Multiaddr:
    """The address without the peer that it ends in; the relay of a circuit stays."""
    return address if peer_of(address) is None else Multiaddr.join(*address.split()[:-1])


def is_circuit(address: Multiaddr) -> bool:
    """Whether it leads through a relay."""
    return any(protocol.code == P_P2P_CIRCUIT for protocol in address.protocols())


def relay_of(circuit: Multiaddr) -> tuple[ID, Multiaddr | None]:
    """The relay of `<address>/p2p/<relay>/p2p-circuit`, with its address if that is there. ProtocolViolation: not such an address."""
    *before, last = without_peer(circuit).split() or [circuit]
    relay = _id_in(before[-1]) if before else None
    transport = Multiaddr.join(*before[:-1]) if len(before) > 1 else None
    if relay is None or not is_circuit(last) or (transport is not None and is_circuit(transport)):
        raise ProtocolViolation(f"not a circuit over one relay: {circuit}")
    return relay, transport


def circuit_over(relay: ID, transport: Multiaddr | None) -> Multiaddr:
    """The circuit address through `relay`, which listens on `transport`; whom it leads to is said behind it."""
    circuit = Multiaddr(f"/p2p/{relay}/p2p-circuit")
    return circuit if transport is None else transport.encapsulate(circuit)


def rank(address: Multiaddr) -> int:
    """Order of dialling: global addresses and names, private ones, loopback; then circuits, in the order of their relays."""
    ip = ip_of(address)
    reach = 0 if ip is None or ip.is_global else 2 if ip.is_loopback else 1
    return reach + 3 if is_circuit(address) else reach


def decode(data: bytes) -> Multiaddr | None:
    """The multiaddr that a peer sent; None when it is none."""
    try:
        address = Multiaddr(data)
    except (MultiaddrError, ValueError, TypeError, KeyError):
        return None
    return address if is_readable(address) else None


def is_readable(address: Multiaddr) -> bool:
    """Whether it is a multiaddr to its last byte: the library takes almost any bytes for one, and fails when they are looked at."""
    if len(address.to_bytes()) > _LONGEST:
        return False
    try:
        return bool(list(address.items()))
    except Exception:  # noqa: BLE001 - its codecs raise whatever their inputs lead to
        return False


def read_plain(encoded: Iterable[bytes]) -> list[Multiaddr]:
    """Those of the multiaddrs that a peer sent which are an IP address and a port: what is neither, or junk, is left out."""
    read = (without_peer(address) for address in map(decode, encoded) if address is not None)
    return [one for one in read if [part.name for part in one.protocols()] in (["ip4", "tcp"], ["ip6", "tcp"])]


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
