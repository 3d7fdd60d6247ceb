"""The gateway as an ASGI application: Quart with the facades of this node."""

from __future__ import annotations

from typing import cast

from quart import Response
from quart.typing import ResponseTypes
from quart.wrappers import BaseRequestWebsocket, Request
from quart_trio import QuartTrio
from werkzeug.routing import MapAdapter

from aicn.config.schema import Http
from aicn.errors import AicnError, Busy
from aicn.gateway import docs, health, metrics
from aicn.gateway.auth import Auth
from aicn.gateway.clients import Bodies, Shares
from aicn.gateway.exchange import Exchange, GatewayRequest, current_request
from aicn.gateway.guard import Guard, cors_headers, preflight_headers
from aicn.gateway.openai import errors as openai_errors
from aicn.gateway.openai import routes as openai_routes
from aicn.gateway.reporting import Reports
from aicn.gateway.v0 import errors as v0_errors
from aicn.gateway.v0 import routes as v0_routes
from aicn.node import Node

ALWAYS = frozenset({*health.PATHS, metrics.PATH})  # answered also when the node takes no more requests


class Gateway(QuartTrio):
    """Quart with our exchange, and with the checks that come before routing."""

    asgi_http_class = Exchange
    request_class = GatewayRequest

    def __init__(self, http: Http, auth: Auth, reports: Reports) -> None:
        super().__init__(__name__, static_folder=None)
        self.url_map.merge_slashes = False  # a 404, no redirect
        self.register_error_handler(Exception, self._on_error)
        self.at_work = 0  # requests whose answer has not ended
        self.shares = Shares(http.requests_per_client)
        self.bodies = Bodies(max(http.bodies_bytes, http.body_bytes))
        self._guard = Guard(http)
        self._auth = auth
        self.reports = reports
        self._most = http.requests

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        """Routing without the Host header: the guard has judged it, and Werkzeug raises on those that are no names."""
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind(
            "localhost", url_scheme=request.scheme, default_method=request.method, path_info=request.path
        )

    async def handle_request(self, request: Request) -> ResponseTypes:
        """The answer to `request`; never raises but for a cancellation."""
        ours = cast("GatewayRequest", request)
        try:
            origin = self._guard.check(request.headers)
            if request.path not in ALWAYS:
                self._check_room(ours)
        except AicnError as error:
            return _error_answer(error, ours)
        if origin is None:
            return await self._answer(ours)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            wanted = request.headers.get("Access-Control-Request-Headers", "")
            return Response(b"", 204, headers=preflight_headers(origin, wanted))
        response = await self._answer(ours)
        response.headers.update(cors_headers(origin))
        return response

    async def _answer(self, request: GatewayRequest) -> ResponseTypes:
        try:
            request.key = self._auth.check(request)
        except AicnError as error:
            return _error_answer(error, request)
        return await super().handle_request(request)

    def _check_room(self, request: GatewayRequest) -> None:
        if self.at_work > self._most:
            raise Busy(f"this node has {self._most} requests at work, as many as http.requests allows")
        if request.crowded:
            raise Busy(
                f"{self.shares.most} requests of this client are at work, as many as http.requests_per_client allows"
            )

    async def _on_error(self, error: Exception) -> Response:
        return _error_answer(error, current_request())


def _error_answer(error: Exception, request: GatewayRequest) -> Response:
    """In the form of the facade that the path belongs to."""
    if f"{request.path}/".startswith(f"{openai_routes.PREFIX}/"):
        return openai_errors.error_answer(error, request)
    return v0_errors.error_answer(error, request)


def create_app(node: Node) -> Gateway:
    """The application that serves `node`."""
    app = Gateway(node.config.http, Auth(node), Reports(node))
    app.register_blueprint(v0_routes.blueprint(node))
    app.register_blueprint(openai_routes.blueprint(node))
    app.register_blueprint(health.blueprint(node))
    if node.config.http.metrics:
        app.register_blueprint(metrics.blueprint(node, lambda: app.at_work))
    if node.config.http.docs:
        app.register_blueprint(docs.blueprint())
    return app
