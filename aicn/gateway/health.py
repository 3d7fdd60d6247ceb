"""`/healthz` and `/readyz`, for supervisors, load balancers and the CLI."""

from __future__ import annotations

import trio
from quart import Blueprint, Response

from aicn import __version__
from aicn.node import Node
from aicn.wire.v0 import answers

PATHS = ("/healthz", "/readyz")  # answered also when the node takes no more requests


def blueprint(node: Node) -> Blueprint:
    """The routes, bound to `node`."""
    bound = Blueprint("health", __name__)

    @bound.get("/healthz")
    async def healthz() -> Response:
        """The process is alive."""
        return Response(b'{"alive":true}', content_type="application/json")

    @bound.get("/readyz")
    async def readyz() -> Response:
        """Whether new requests are taken, and what the node has to offer."""
        ready = not node.nodes.stopping
        state = {
            "ready": ready,
            "peer_id": node.peers.id,
            "version": __version__,
            "uptime_s": round(trio.current_time() - node.started_at, 3),
            "peers": len({connection.peer for connection in node.peers.connections()}),
            "models": sum(len(project.models) for project in node.registration.projects()),
        }
        return Response(answers.encode_json(state), 200 if ready else 503, content_type="application/json")

    return bound
