"""The table of calls of `/v1`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from quart import Blueprint, Response

from aicn.gateway.calls import Route
from aicn.gateway.openai import images, models, texts
from aicn.node import Node

PREFIX = "/v1"
ROUTES: tuple[Route, ...] = (*texts.ROUTES, *images.ROUTES, *models.ROUTES)


def blueprint(node: Node) -> Blueprint:
    """The calls, bound to `node`."""
    bound = Blueprint("openai", __name__, url_prefix=PREFIX)
    for route in ROUTES:
        view = partial(_view, route.handler, node)
        bound.add_url_rule(route.path, view_func=view, endpoint=route.handler.__name__, methods=[route.method])
    return bound


async def _view(handler: Callable[[Node], Awaitable[Response]], node: Node, **_path: str) -> Response:
    """What a path has of its own the handler finds in the request."""
    return await handler(node)
