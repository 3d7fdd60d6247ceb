"""Projects and models of this node, and of another that is asked."""

from __future__ import annotations

from quart import Response

from aicn.gateway.calls import Route, decoded, json_answer
from aicn.gateway.v0.calls import data, done
from aicn.node import Node
from aicn.wire.v0 import answers
from aicn.wire.v0 import nodes as nodes_wire
from aicn.wire.v0 import registration as wire


async def register(node: Node) -> Response:
    """Replace a project's models; with `probe`, only when each endpoint answers."""
    wanted = await decoded(node, wire.decode_register)
    if wanted.probe:
        await node.worker.probe(wanted.endpoints)
    await node.registration.register(wanted.project, wanted.endpoints)
    return done()


async def unregister(node: Node) -> Response:
    """Drop a project, or one model of it."""
    project, model = await decoded(node, wire.decode_unregister)
    existed = await node.registration.unregister(project, model)
    return done() if existed else json_answer(answers.encode_ok("not existed"))


async def projects_of_peer(node: Node) -> Response:
    """Projects and models of any node."""
    node_id = await decoded(node, nodes_wire.decode_node_id)
    return data(wire.encode_projects(await node.nodes.projects_of(node_id)))


ROUTES = (
    Route("POST", "/ai/project/register", register),
    Route("POST", "/ai/project/unregister", unregister),
    Route("POST", "/ai/project/peer", projects_of_peer),
)
