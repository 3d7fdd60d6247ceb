"""One request from its head to the last byte of its answer: what every facade shares, around Quart's own handling."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.globals import request_ctx
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest

from aicn.domain.inference import InferenceRequest
from aicn.domain.keys import Key
from aicn.errors import SlowBody, TooLarge
from aicn.gateway.clients import Bodies, client_of
from aicn.gateway.reporting import CLIENT_LEFT
from aicn.services.ports import Answer, Metered

if TYPE_CHECKING:
    from aicn.gateway.app import Gateway

BODY_S = 20.0  # for a request's body to arrive, and …
BODY_BYTES_PER_S = 2**16  # … a second more for each of these: a large body on a slow line is no attack
_ABSOLUTE_FORM = re.compile(r"^(?:https?://[^/]*)?/?", re.IGNORECASE)  # as sent to proxies; also an empty path and "*"


class GatewayRequest(TrioRequest):
    """A request, and what its handler leaves for the end of the exchange."""

    receive: ASGIReceiveCallable
    bodies: Bodies  # where what `read_body` has read is counted until the end of the exchange
    held: int = 0  # of it, bytes
    client: str  # as gateway/clients.py counts them
    crowded: bool = False  # its client has more requests at work than it may
    id: str  # unique; in the log, in `X-Request-Id`, and on the worker
    streamed: bool = False  # the client asked for a streamed answer: errors have other numbers
    asked: InferenceRequest | None = None  # of a model, as far as it came to that
    first_at: float | None = None  # trio.current_time() of the first piece of a streamed answer
    answer: Answer | None = None  # closed when the exchange ends, however it ends
    error: str = ""  # code word of what went wrong, for the log
    key: Key | None = None  # that the client has shown
    metered: Metered | None = None  # what is counted when the exchange ends
    sent: int = 0  # bytes of the answer

    async def read_body(self, most: int) -> bytes:
        """The whole body; TooLarge as soon as it is known to be over `most` bytes, SlowBody when it trickles, Busy when all
        requests together hold too much."""
        if (self.content_length or 0) > most:
            raise TooLarge(f"the request body has {self.content_length} bytes; at most {most} are allowed")
        body = bytearray()
        with trio.CancelScope(deadline=trio.current_time() + BODY_S) as scope:
            while True:
                message = cast("dict[str, Any]", await self.receive())
                piece = message.get("body", b"")
                body += piece
                self.held += len(piece)
                self.bodies.add(len(piece), own=self.held)
                if len(body) > most:
                    raise TooLarge(f"the request body is larger than the {most} bytes that are allowed")
                if not message.get("more_body", False):
                    return bytes(body)
                scope.deadline += len(piece) / BODY_BYTES_PER_S
        raise SlowBody("the request body did not arrive in time")


def current_request() -> GatewayRequest:
    """The request that the running handler is for."""
    return cast("GatewayRequest", request_ctx.request)


class Exchange(TrioASGIHTTPConnection):
    """Quart's side of one request.

    The class it extends starts two tasks per request, to receive the body and to hear of a hang-up. Here the handler reads the body when
    it wants it, and a hang-up is the cancellation of this very task (connection.py).
    """

    app: Gateway

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        began = trio.current_time()
        self.scope["path"] = _ABSOLUTE_FORM.sub("/", self.scope["path"], count=1)
        request = cast("GatewayRequest", self._create_request_from_scope(send))
        request.receive = receive
        request.bodies = self.app.bodies
        request.id = uuid.uuid4().hex
        status = CLIENT_LEFT
        peer = self.scope["client"]
        assert peer is not None  # connection.py names it
        request.client = client = client_of(peer[0])
        self.app.at_work += 1
        request.crowded = self.app.shares.add(client)
        try:
            response = await self.app.handle_request(request)
            response.headers["X-Request-Id"] = request.id
            await self._send_response(send, response)
            status = response.status_code
        finally:
            self.app.at_work -= 1
            self.app.shares.remove(client)
            self.app.bodies.release(request.held)
            self.app.reports.ended(request, status, began=began)
            if request.metered is not None:
                _settle(request.metered, request, status)
            if request.answer is not None:
                await request.answer.aclose()


def _settle(metered: Metered, request: GatewayRequest, status: int) -> None:
    left = status == CLIENT_LEFT
    metered.end(request.answer, whole=status == 200 and not request.error, left=left, sent=request.sent)
