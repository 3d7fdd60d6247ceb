"""What the calls of every facade share: how a body is decoded, how an answer is made, what a route is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import trio
from quart import Response

from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind, Part
from aicn.errors import MalformedBody, UnsupportedMediaType
from aicn.gateway.exchange import GatewayRequest, current_request
from aicn.node import Node

T = TypeVar("T")

# What a body that is meant as JSON may be declared as: the form type is what curl says when it is told nothing.
JSON_TYPES = {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}


class Route(NamedTuple):
    """One call: `handler` decodes, makes one call on the node, encodes."""

    method: str
    path: str  # below the prefix of its facade
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


def model_request(
    node: Node, kind: Kind, *, project: str, model: str, body: bytes, stream: bool = False, parts: tuple[Part, ...] = ()
) -> InferenceRequest:
    """What the running exchange asks of a model, admitted to what its API key may and counted from now on. Forbidden, RateLimited."""
    this = current_request()
    this.asked = request = InferenceRequest(
        id=this.id,
        kind=kind,
        project=project,
        model=model,
        body=body,
        stream=stream,
        deadline=trio.current_time() + node.config.limits.request_s,
        parts=parts,
    )
    this.metered = node.usage.begin(this.key, request)
    return request if this.key is None else replace(request, key=this.key.id)


def from_node(response: Response, node: PeerId | None) -> Response:
    """`response` with the node that gave the answer, where that is known."""
    if node is not None:
        response.headers["X-AICN-Node"] = node
    return response


def json_answer(body: bytes) -> Response:
    """`body` is JSON text."""
    return Response(body, content_type="application/json")


def may_resume(request: GatewayRequest) -> bool:
    """Whether another node may go on with a streamed answer that breaks off: unless the client says `X-AICN-Resume: off`."""
    return request.headers.get("X-AICN-Resume", "").strip().lower() not in ("off", "false", "no", "0")
