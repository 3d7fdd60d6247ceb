"""What the calls of the v0 API share: how a body is decoded, how an answer is made, what a route is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from quart import Response

from aicn.errors import MalformedBody, UnsupportedMediaType
from aicn.gateway.exchange import current_request
from aicn.node import Node
from aicn.wire.v0 import answers

T = TypeVar("T")

# What a body that is meant as JSON may be declared as: the form type is what curl says when it is told nothing.
JSON_TYPES = {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}


class Route(NamedTuple):
    """One call: `handler` decodes, makes one call on the node, encodes."""

    method: str
    path: str  # below /api/v0
    handler: Callable[[Node], Awaitable[Response]]
    also: tuple[
        str, ...
    ] = ()  # methods beside spec 1's that the existing program takes, so that its clients' calls work


async def decoded(node: Node, decode: Callable[[bytes], T]) -> T:
    """The request's body, decoded, whatever it is declared as; UnsupportedMediaType when it is declared as something
    else than JSON and is not JSON."""
    this = current_request()
    body = await this.read_body(node.config.http.body_bytes)
    try:
        return decode(body)
    except MalformedBody as error:
        if this.mimetype not in JSON_TYPES and not this.mimetype.endswith("+json"):
            raise UnsupportedMediaType(f"{this.mimetype}: JSON is needed; {error.message}") from None
        raise


def json_answer(body: bytes) -> Response:
    """`body` is JSON text."""
    return Response(body, content_type="application/json")


def done() -> Response:
    """The answer of a call that has nothing to tell."""
    return json_answer(answers.encode_ok())


def data(value: object) -> Response:
    """The success envelope around `value`."""
    return json_answer(answers.encode_data(value))


def bare(value: object) -> Response:
    """`value` without the envelope, where spec 1 has none."""
    return json_answer(answers.encode_json(value))
