"""What nodes tell of themselves."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route, decoded
from aicn.gateway.v0.calls import bare, data
from aicn.node import Node
from aicn.wire.v0 import nodes as wire


async def own_info(node: Node) -> Response:
    """PeerInfo of this node."""
    return bare(wire.encode_info(node.peers.info()))


async def info_of_peer(node: Node) -> Response:
    """PeerInfo of any node."""
    node_id = await decoded(node, wire.decode_node_id)
    return data(wire.encode_info(await node.nodes.info_of(node_id)))


async def host_info(node: Node) -> Response:
    """Hardware and system of any node."""
    node_id = await decoded(node, wire.decode_node_id)
    return data(wire.encode_host_info(await node.nodes.host_info_of(node_id)))


ROUTES = (
    Route("GET", "/id", own_info),
    Route("POST", "/peer", info_of_peer),
    Route("POST", "/host/info", host_info),
)
