"""What is known of a node and of the connections to others."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from aicn.domain.ids import PeerId

PROTOCOL_VERSION = "aicn/0.0.1"  # identify's protocol version in the existing network (spec 1, /id)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Identify data of a node (spec 1, PeerInfo)."""

    peer_id: PeerId
    protocol_version: str
    agent_version: str
    addresses: tuple[str, ...]  # multiaddrs without /p2p/<id>
    protocols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """One open connection."""

    number: int  # grows by one with each connection of this process
    peer: PeerId
    address: str  # the remote multiaddr without /p2p/<id>
    rtt: float  # seconds, smoothed; 0: not measured yet
    direction: Literal["Inbound", "Outbound"]


class Connectivity(IntEnum):
    """How a peer can be reached (spec 1, /ai/projects/peers)."""

    NOT_CONNECTED = 0
    CONNECTED = 1
    CAN_CONNECT = 2  # was connected not long ago
    CANNOT_CONNECT = 3  # the last attempt, not long ago, failed


@dataclass(frozen=True, slots=True)
class Link:
    """How near a peer is."""

    connectivity: Connectivity
    rtt: float  # seconds, smoothed; 0: not connected, or not measured yet
    relayed: bool = False  # every connection to it goes through a relay


@dataclass(frozen=True, slots=True)
class DialOutcome:
    """How an attempt to reach a peer at an address has ended; or that it came from there and says that it listens."""

    peer: PeerId
    address: str  # multiaddr without /p2p/<id>
    at: float  # Unix time
    reached: bool | None  # None: nobody has tried


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """An address at which a peer was reached before, or should be."""

    peer: PeerId
    address: str  # multiaddr without /p2p/<id>
    connected_at: float  # Unix time of the last success
    successes: int
    failures: int  # in a row, since the last success; one that was never tried begins with 1


@dataclass(frozen=True, slots=True)
class Message:
    """A pubsub message."""

    topic: str
    sender: PeerId  # who has signed it
    data: bytes
    signed: bytes = b""  # the whole signed message, for handing it on outside pubsub
