"""Images from a description, and images changed as described. They come inside the answer."""

from __future__ import annotations

from functools import partial

import trio
from quart import Response

from aicn.domain.inference import Kind
from aicn.gateway.calls import Route, decoded, json_answer
from aicn.gateway.exchange import current_request
from aicn.gateway.openai.asking import ask, signed
from aicn.gateway.streaming import collect
from aicn.node import Node
from aicn.wire.form import FORM_TYPE
from aicn.wire.openai import requests as wire
from aicn.wire.openai.answers import encode_images

_LARGE_BYTES = 2**20  # of an answer: some ms of work, too much for the event loop


async def generation(node: Node) -> Response:
    """Images from a description."""
    return await _respond(node, await decoded(node, partial(wire.decode_image, kind=Kind.IMAGE_GENERATION)))


async def edit(node: Node) -> Response:
    """An image changed as described; JSON, or a form with the image's file."""
    this = current_request()
    if this.mimetype == FORM_TYPE:
        body = await this.read_body(node.config.http.body_bytes)
        return await _respond(node, wire.decode_edit_form(body, this.headers["Content-Type"]))
    return await _respond(node, await decoded(node, partial(wire.decode_image, kind=Kind.IMAGE_EDIT)))


async def _respond(node: Node, asked: wire.Asked) -> Response:
    answer = await ask(node, asked)
    body = await collect(answer, node.config.limits.answer_bytes)
    encode = partial(encode_images, body, source=f"node {answer.node}")
    told = await trio.to_thread.run_sync(encode) if len(body) > _LARGE_BYTES else encode()
    return signed(json_answer(told), answer)


ROUTES = (
    Route("POST", "/images/generations", generation),
    Route("POST", "/images/edits", edit),
)
