"""What supervisors ask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from aicn.gateway.v0.schema.shapes import EXAMPLE_ID, Operation, PeerId, Told


class Alive(Told):
    """The process is alive."""

    alive: Literal[True]


class Ready(Told):
    """Whether the node takes new requests (503: it does not), and what it has."""

    ready: bool
    peer_id: PeerId
    version: str
    uptime_s: NonNegativeFloat
    peers: NonNegativeInt = Field(description="Connected peers.")
    models: NonNegativeInt = Field(description="Registered models.")


_READY = {"ready": True, "peer_id": EXAMPLE_ID, "version": "1.0.0", "uptime_s": 93784.25, "peers": 4, "models": 2}
OPERATIONS = (
    Operation("GET", "/healthz", "Health", Alive, example={"answer": {"alive": True}}),
    Operation("GET", "/readyz", "Health", Ready, example={"answer": _READY}),
)
