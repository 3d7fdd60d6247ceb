"""Connections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel

from aicn.gateway.v0.schema.shapes import BODY_ERRORS, EXAMPLE_ID, Ok, Operation, PeerId, Request, Told
from aicn.wire.v0.swarm import LONGEST_ADDRESS


class Address(Request):
    """A peer and where it is."""

    node_addr: str = Field(min_length=1, max_length=LONGEST_ADDRESS, description="A multiaddr that ends in /p2p/<id>.")


class Connection(Told):
    """An open connection."""

    id: str = Field(description="Beginning of the peer id, and a number that no other connection had.")
    peer: PeerId
    addr: str = Field(description="The multiaddr of the other end.")
    latency: str = Field(
        pattern=r"^((\d+h)?\d+m)?\d+(\.\d+)?(ns|µs|ms|s)$",
        description='Round trip as Go prints it; "0s": not measured yet.',
        examples=["208.878448ms"],
    )
    direction: Literal["Inbound", "Outbound"]


class Known(Told):
    """A peer with the addresses known of it."""

    peer: PeerId
    addrs: list[str]


class Connections(RootModel[list[Connection]]):
    """Open connections, without an envelope."""


class Addresses(RootModel[list[Known]]):
    """Known peers, without an envelope."""


class Subscribers(RootModel[list[PeerId]]):
    """Connected peers that hear the network's topic, without an envelope."""


class Advertisers(Ok):
    """Peers that advertise themselves under the network's topic in the DHT."""

    data: list[PeerId]


_DIAL = (*BODY_ERRORS, "unreachable", "deadline_exceeded")
OPERATIONS = (
    Operation("POST", "/api/v0/swarm/peers", "Connections", Connections),
    Operation("POST", "/api/v0/swarm/addrs", "Connections", Addresses),
    Operation("POST", "/api/v0/swarm/connect", "Connections", Ok, Address, _DIAL),
    Operation("POST", "/api/v0/swarm/disconnect", "Connections", Ok, Address, (*BODY_ERRORS, "not_connected")),
    Operation("POST", "/api/v0/pubsub/peers", "Connections", Subscribers),
    Operation(
        "GET",
        "/api/v0/rendezvous/peers",
        "Connections",
        Advertisers,
        errors=("unsupported", "unknown_node"),
        example={"answer": {"code": 0, "message": "ok", "data": [EXAMPLE_ID]}},
    ),
)
