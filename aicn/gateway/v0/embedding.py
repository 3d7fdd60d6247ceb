"""Embeddings by a model of a named node. Ours: the existing network has none."""

from __future__ import annotations

from quart import Response

from aicn.domain.inference import Kind
from aicn.gateway.calls import Route, decoded, from_node, json_answer, model_request
from aicn.gateway.exchange import current_request
from aicn.gateway.streaming import collect
from aicn.node import Node
from aicn.wire.completion import parse_completion
from aicn.wire.v0 import answers
from aicn.wire.v0 import inference as wire


async def embedding(node: Node) -> Response:
    """The vectors of texts; `data` is the answer of the model's endpoint, byte for byte."""
    this = current_request()
    wanted = await decoded(node, wire.decode_embed)
    request = model_request(node, Kind.EMBEDDING, project=wanted.project, model=wanted.model, body=wanted.body)
    this.answer = await node.inference.open(wanted.node_id, request)
    body = await collect(this.answer, node.config.limits.answer_bytes)
    parse_completion(body, Kind.EMBEDDING, source=f"node {wanted.node_id}")
    return from_node(json_answer(answers.wrap_data(body)), wanted.node_id)


ROUTES = (Route("POST", "/embedding", embedding),)
