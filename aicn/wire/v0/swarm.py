"""Connections."""

from __future__ import annotations

from collections.abc import Sequence

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connection
from aicn.errors import InvalidRequest
from aicn.wire.json_body import take

LONGEST_ADDRESS = 1024  # characters of a multiaddr; a real one with relay and peer ids has under 300


def decode_address(body: bytes) -> str:
    """`POST /swarm/connect` and `/swarm/disconnect`: a multiaddr, parsed by whoever dials it."""
    address = take(body)[0].get("node_addr")
    if not isinstance(address, str) or not 0 < len(address) <= LONGEST_ADDRESS:
        raise InvalidRequest("node_addr: a multiaddr is needed, such as /ip4/10.0.20.43/tcp/6001/p2p/16Uiu2HAm…")
    return address


def encode_connections(connections: Sequence[Connection]) -> list[dict[str, object]]:
    """`/swarm/peers`."""
    return [
        {
            "id": f"{connection.peer[:10]}-{connection.number}",  # go-libp2p's name of a connection
            "peer": connection.peer,
            "addr": connection.address,
            "latency": go_duration(connection.rtt),
            "direction": connection.direction,
        }
        for connection in connections
    ]


def encode_addresses(known: Sequence[tuple[PeerId, Sequence[str]]]) -> list[dict[str, object]]:
    """`/swarm/addrs`."""
    return [{"peer": peer, "addrs": list(addresses)} for peer, addresses in known]


def go_duration(seconds: float) -> str:
    """`seconds` (>= 0) as Go prints a time.Duration: "0s", "208.878448ms", "1.5s", "2m0.25s"."""
    ns = round(seconds * 1e9)
    if ns == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1000:
            return f"{_decimal(ns, size)}{unit}"
    minutes, rest = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, unit: int) -> str:
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
