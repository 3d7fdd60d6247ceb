"""Embeddings by a model of a named node. Ours: the existing network has none."""

from __future__ import annotations

import trio
from quart import Response

from aicn.domain.inference import InferenceRequest, Kind
from aicn.gateway.calls import Route, admitted, decoded, json_answer
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
    request = InferenceRequest(
        id=this.id,
        kind=Kind.EMBEDDING,
        project=wanted.project,
        model=wanted.model,
        body=wanted.body,
        stream=False,
        deadline=trio.current_time() + node.config.limits.request_s,
    )
    this.answer = await node.inference.open(wanted.node_id, admitted(node, request))
    body = await collect(this.answer, node.config.limits.answer_bytes)
    parse_completion(body, Kind.EMBEDDING, source=f"node {wanted.node_id}")
    response = json_answer(answers.wrap_data(body))
    response.headers["X-AICN-Node"] = wanted.node_id
    return response


ROUTES = (Route("POST", "/embedding", embedding),)
