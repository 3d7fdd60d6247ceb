"""`/metrics`, for Prometheus. Names of models and how much they are used: beyond loopback it takes an admin key, as other calls do."""

from __future__ import annotations

from collections.abc import Callable

from quart import Blueprint, Response

from aicn.node import Node

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus' text format


def blueprint(node: Node, in_flight: Callable[[], int]) -> Blueprint:
    """The route, bound to `node`. `in_flight`: how many requests are at work."""
    bound = Blueprint("metrics", __name__)

    @bound.get(PATH)
    async def metrics() -> Response:
        """What the node counts, in Prometheus' text format."""
        return Response(await node.metrics.text(in_flight=in_flight()), content_type=CONTENT_TYPE)

    return bound
