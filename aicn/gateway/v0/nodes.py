"""What nodes tell of themselves."""

from __future__ import annotations

from quart import Response

from aicn.gateway.v0.calls import Route, bare
from aicn.node import Node
from aicn.wire.v0 import nodes as wire


async def own_info(node: Node) -> Response:
    """PeerInfo of this node."""
    return bare(wire.encode_info(node.peers.info()))


ROUTES = (Route("GET", "/id", own_info),)
