"""What a node would do and has done, and why."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route
from aicn.gateway.exchange import current_request
from aicn.gateway.v0.calls import data
from aicn.node import Node
from aicn.wire.v0 import routing as wire
from aicn.wire.v0.tracing import decode_trace, encode_trace


async def route(node: Node) -> Response:
    """Who would be asked for a model now, in which order, and why."""
    project, model, kind = wire.decode_route(current_request().args)
    if project is None:
        project, model = node.models.resolve(model, kind)
    return data(wire.encode_route(project, model, node.dispatch.explain(project, model, kind)))


async def trace(node: Node) -> Response:
    """What became of a request that has ended, and why."""
    request_id = decode_trace(current_request().args)
    found = node.traces.find(request_id)
    return data(encode_trace(request_id, found.trace, found.served, found.worked))


ROUTES = (Route("GET", "/debug/route", route), Route("GET", "/debug/trace", trace))
