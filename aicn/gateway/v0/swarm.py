"""Connections of this node, and what it knows of others."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route, decoded
from aicn.gateway.v0.calls import bare, data, done
from aicn.node import Node
from aicn.wire.v0 import swarm as wire


async def connect(node: Node) -> Response:
    """Dial a multiaddr."""
    await node.peers.connect(await decoded(node, wire.decode_address))
    return done()


async def disconnect(node: Node) -> Response:
    """Close the connections to a peer, and keep them closed."""
    await node.swarm.disconnect(await decoded(node, wire.decode_address))
    return done()


async def connections(node: Node) -> Response:
    """The open connections."""
    return bare(wire.encode_connections(node.peers.connections()))


async def addresses(node: Node) -> Response:
    """Where peers are, as far as this node has heard."""
    return bare(wire.encode_addresses(await node.swarm.known_addresses()))


async def subscribers(node: Node) -> Response:
    """Connected peers that hear the network's topic."""
    return bare(list(node.topics.subscribers(node.config.p2p.topic)))


async def rendezvous(node: Node) -> Response:
    """Who advertises the network's topic in the DHT."""
    return data(list(await node.swarm.rendezvous()))


ROUTES = (
    Route("POST", "/swarm/peers", connections),
    Route("POST", "/swarm/addrs", addresses),
    Route("POST", "/swarm/connect", connect),
    Route("POST", "/swarm/disconnect", disconnect),
    Route("POST", "/pubsub/peers", subscribers),
    Route("GET", "/rendezvous/peers", rendezvous),
)
