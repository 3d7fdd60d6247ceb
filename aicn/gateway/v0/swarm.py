"""Connections of this node."""

from __future__ import annotations

from quart import Response

from aicn.gateway.v0.calls import Route, bare, decoded, done
from aicn.node import Node
from aicn.wire.v0 import swarm as wire


async def connect(node: Node) -> Response:
    """Dial a multiaddr."""
    await node.peers.connect(await decoded(node, wire.decode_address))
    return done()


async def connections(node: Node) -> Response:
    """The open connections."""
    return bare(wire.encode_connections(node.peers.connections()))


ROUTES = (
    Route("POST", "/swarm/connect", connect),
    Route("POST", "/swarm/peers", connections),
)
