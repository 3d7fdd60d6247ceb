"""The routes of the v0 API: each decodes, makes one call, encodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio
from quart import Blueprint, Response

from aicn.domain.inference import InferenceRequest, Kind
from aicn.errors import MalformedBody, UnsupportedMediaType
from aicn.gateway.exchange import current_request
from aicn.gateway.streaming import EVENT_STREAM_HEADERS, EventStream, collect, first_piece
from aicn.gateway.v0.errors import error_event
from aicn.node import Node
from aicn.wire import v0
from aicn.wire.completion import parse_completion

T = TypeVar("T")

PREFIX = "/api/v0"
# What a body that is meant as JSON may be declared as: the form type is what curl says when it is told nothing.
JSON_TYPES = {"", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded"}


class Routes:
    """The handlers, and what they call."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def id(self) -> Response:
        """PeerInfo of this node."""
        return _json(v0.encode_json(v0.encode_info(self._node.peers.info())))

    async def register(self) -> Response:
        """Replace a project's models."""
        project, endpoints = await self._decoded(v0.decode_register)
        await self._node.registration.register(project, endpoints)
        return _json(v0.encode_ok())

    async def unregister(self) -> Response:
        """Drop a project, or one model of it."""
        project, model = await self._decoded(v0.decode_unregister)
        existed = await self._node.registration.unregister(project, model)
        return _json(v0.encode_ok() if existed else v0.encode_ok("not existed"))

    async def projects_of_peer(self) -> Response:
        """Projects and models of any node."""
        node_id = await self._decoded(v0.decode_node_id)
        return _json(v0.encode_data(v0.encode_projects(await self._node.nodes.projects_of(node_id))))

    async def connect(self) -> Response:
        """Dial a multiaddr."""
        await self._node.peers.connect(await self._decoded(v0.decode_address))
        return _json(v0.encode_ok())

    async def peers(self) -> Response:
        """The open connections."""
        return _json(v0.encode_json(v0.encode_connections(self._node.peers.connections())))

    async def chat_completion(self) -> Response:
        """A chat with a model of any node, plain or streamed."""
        this = current_request()
        chat = await self._decoded(v0.decode_chat)
        this.streamed = chat.stream
        limits = self._node.config.limits
        answer = this.answer = await self._node.inference.open(
            chat.node_id,
            InferenceRequest(
                id=this.id,
                kind=Kind.CHAT,
                project=chat.project,
                model=chat.model,
                body=chat.body,
                stream=chat.stream,
                deadline=trio.current_time() + limits.request_s,
            ),
        )
        if chat.stream:
            first = await first_piece(answer)
            response = Response(
                EventStream(this, answer, first=first, error_event=error_event), headers=EVENT_STREAM_HEADERS
            )
        else:
            body = await collect(answer, limits.answer_bytes)
            parse_completion(body, Kind.CHAT, source=f"node {answer.node}")
            response = _json(v0.wrap_data(body))
        if answer.node is not None:
            response.headers["X-AICN-Node"] = answer.node
        return response

    async def _decoded(self, decode: Callable[[bytes], T]) -> T:
        """The request's body, decoded, whatever it is declared as; UnsupportedMediaType when it is declared as something
        else than JSON and is not JSON."""
        this = current_request()
        body = await this.read_body(self._node.config.http.body_bytes)
        try:
            return decode(body)
        except MalformedBody as error:
            if this.mimetype not in JSON_TYPES and not this.mimetype.endswith("+json"):
                raise UnsupportedMediaType(f"{this.mimetype}: JSON is needed; {error.message}") from None
            raise


ROUTES: tuple[tuple[str, str, Callable[[Routes], Awaitable[Response]]], ...] = (
    ("GET", "/id", Routes.id),
    ("POST", "/ai/project/register", Routes.register),
    ("POST", "/ai/project/unregister", Routes.unregister),
    ("POST", "/ai/project/peer", Routes.projects_of_peer),
    ("POST", "/swarm/connect", Routes.connect),
    ("POST", "/swarm/peers", Routes.peers),
    ("POST", "/chat/completion", Routes.chat_completion),
)


def blueprint(node: Node) -> Blueprint:
    """The routes, bound to `node`."""
    routes = Routes(node)
    bound = Blueprint("v0", __name__, url_prefix=PREFIX)
    for method, path, handler in ROUTES:
        bound.add_url_rule(path, view_func=partial(handler, routes), endpoint=handler.__name__, methods=[method])
    return bound


def _json(body: bytes) -> Response:
    return Response(body, content_type="application/json")
