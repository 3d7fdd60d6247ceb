"""Images by a model, of a named node or of whichever node has it."""

from __future__ import annotations

from functools import partial

from quart import Response

from aicn.domain.inference import InferenceRequest, Kind
from aicn.gateway.calls import Route, decoded, from_node, json_answer, model_request
from aicn.gateway.exchange import current_request
from aicn.gateway.streaming import collect
from aicn.node import Node
from aicn.services.ports import Answer
from aicn.wire.form import FORM_TYPE
from aicn.wire.images import check_answer
from aicn.wire.v0 import answers
from aicn.wire.v0 import images as wire


async def generation(node: Node) -> Response:
    """Images from a description, by a model of any node."""
    node_id, image = await decoded(node, partial(wire.decode_image_at, kind=Kind.IMAGE_GENERATION))
    current_request().answer = answer = await node.inference.open(node_id, request_of(node, image))
    return await respond(answer, most=node.config.limits.answer_bytes)


async def project_generation(node: Node) -> Response:
    """Images from a description, by a model of whichever node has it."""
    image = await decoded(node, partial(wire.decode_image, kind=Kind.IMAGE_GENERATION))
    current_request().answer = answer = await node.dispatch.open(request_of(node, image))
    return await respond(answer, most=node.config.limits.answer_bytes)


async def edit(node: Node) -> Response:
    """An image changed as described, by a model of any node; JSON, or a form with the image's file."""
    this = current_request()
    if this.mimetype == FORM_TYPE:
        body = await this.read_body(node.config.http.body_bytes)
        node_id, image = wire.decode_edit_form(body, this.headers["Content-Type"])
    else:
        node_id, image = await decoded(node, partial(wire.decode_image_at, kind=Kind.IMAGE_EDIT))
    this.answer = await node.inference.open(node_id, request_of(node, image))
    return await respond(this.answer, most=node.config.limits.answer_bytes)


def request_of(node: Node, image: wire.Image) -> InferenceRequest:
    """The request that the running call makes of `image`, admitted."""
    return model_request(node, image.kind, project=image.project, model=image.model, body=image.body, parts=image.parts)


async def respond(answer: Answer, *, most: int) -> Response:
    """The HTTP answer to an image request, of at most `most` bytes."""
    body = await collect(answer, most)
    check_answer(body, source=f"node {answer.node}")
    return from_node(json_answer(answers.wrap_data(body)), answer.node)


ROUTES = (
    Route("POST", "/image/gen", generation),
    Route("POST", "/image/gen/proxy", project_generation),
    Route("POST", "/image/edit", edit),
)
