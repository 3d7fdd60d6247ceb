"""What a node would do, and why."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route
from aicn.gateway.exchange import current_request
from aicn.gateway.v0.calls import data
from aicn.node import Node
from aicn.wire.v0 import routing as wire


async def route(node: Node) -> Response:
    """Who would be asked for a model now, in which order, and why."""
    project, model, kind = wire.decode_route(current_request().args)
    if project is None:
        project, model = node.models.resolve(model, kind)
    return data(wire.encode_route(project, model, node.dispatch.explain(project, model, kind)))


ROUTES = (Route("GET", "/debug/route", route),)
