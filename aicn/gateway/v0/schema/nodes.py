"""Nodes and their machines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt

from aicn.gateway.v0.schema.shapes import BODY_ERRORS, NODE_ERRORS, ByNode, Ok, Operation, PeerId, Told


class PeerInfo(Told):
    """A node."""

    peer_id: PeerId
    protocol_version: str = Field(examples=["aicn/0.0.1"])
    agent_version: str
    addresses: list[str] = Field(description="Multiaddrs, without /p2p/<id>.")
    protocols: list[str]


class Peers(Ok):
    """The nodes of the network."""

    data: list[PeerId]


class Peer(Ok):
    """PeerInfo of the node that was asked for."""

    data: PeerInfo


class OperatingSystem(Told):
    """What runs on the machine; what cannot be read is empty."""

    os: str
    platform: str
    platform_family: str
    platform_version: str
    kernel_version: str
    kernel_arch: str


class Cpu(Told):
    """A processor package."""

    model_name: str
    total_cores: NonNegativeInt
    total_threads: NonNegativeInt


class Memory(Told):
    """Main memory; 0: cannot be read."""

    total_physical_bytes: NonNegativeInt
    total_usable_bytes: NonNegativeInt


class Disk(Told):
    """A physical disk."""

    drive_type: Literal["HDD", "SSD", "FDD", "ODD", "virtual", "unknown"]
    size_bytes: NonNegativeInt
    model: str
    serial_number: str = Field(description="Empty when the node keeps serial numbers to itself.")


class Gpu(Told):
    """A graphics adapter."""

    vendor: str
    product: str


class Machine(Told):
    """Hardware and system of a node."""

    os: OperatingSystem
    cpu: list[Cpu]
    memory: Memory
    disk: list[Disk]
    gpu: list[Gpu]


class HostInfo(Ok):
    """The machine of the node that was asked for."""

    data: Machine


_ASKED = (*BODY_ERRORS, *NODE_ERRORS)
OPERATIONS = (
    Operation("GET", "/api/v0/id", "Nodes", PeerInfo),
    Operation("GET", "/api/v0/peers", "Nodes", Peers, errors=("unsupported",)),
    Operation("POST", "/api/v0/peer", "Nodes", Peer, ByNode, _ASKED),
    Operation("POST", "/api/v0/host/info", "Nodes", HostInfo, ByNode, _ASKED),
)
