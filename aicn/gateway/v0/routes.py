"""The table of calls of the v0 API."""

from __future__ import annotations

from functools import partial

from quart import Blueprint

from aicn.gateway.calls import Route
from aicn.gateway.v0 import chat, debug, directory, embedding, images, keys, nodes, registration, swarm
from aicn.node import Node

PREFIX = "/api/v0"
ROUTES: tuple[Route, ...] = (
    *nodes.ROUTES,
    *directory.ROUTES,
    *registration.ROUTES,
    *swarm.ROUTES,
    *chat.ROUTES,
    *embedding.ROUTES,
    *images.ROUTES,
    *debug.ROUTES,
    *keys.ROUTES,
)


def blueprint(node: Node) -> Blueprint:
    """The calls, bound to `node`."""
    bound = Blueprint("v0", __name__, url_prefix=PREFIX)
    for method, path, handler, also in ROUTES:
        methods = [method, *also]
        bound.add_url_rule(path, view_func=partial(handler, node), endpoint=path.replace(".", ""), methods=methods)
    return bound
