"""The network's nodes, projects and models, as far as this node knows."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route, decoded
from aicn.gateway.exchange import current_request
from aicn.gateway.v0.calls import data
from aicn.node import Node
from aicn.wire.v0 import directory as wire


async def nodes(node: Node) -> Response:
    """Peer ids of all known nodes of the network."""
    return data(node.directory.members())


async def projects(node: Node) -> Response:
    """Names of all projects."""
    return data(node.directory.projects())


async def models(node: Node) -> Response:
    """Names of a project's models."""
    return data(node.directory.models(await decoded(node, wire.decode_project)))


async def providers(node: Node) -> Response:
    """The nearest nodes that have a model, or any of a project."""
    most = wire.decode_number(current_request().args.get("number"))
    project, model = await decoded(node, wire.decode_peers)
    return data(wire.encode_providers(await node.directory.nearest(project, model, most)))


ROUTES = (
    Route("GET", "/peers", nodes),
    Route("POST", "/ai/projects/list", projects, also=("GET",)),
    Route("POST", "/ai/projects/models", models, also=("GET",)),
    Route("POST", "/ai/projects/peers", providers, also=("GET",)),
)
