"""A model endpoint of spec 2 without a model, to try a node with: it repeats what it hears and draws patterns.

An ASGI application for the gateway's server. It keeps nothing: a picture's URL holds all that it is drawn from.
"""

from __future__ import annotations

import json
import re
import signal
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, cast

import trio

from aicn.config.schema import Http
from aicn.dev.answers import ChatReply, embeddings, refusal, success
from aicn.dev.drawing import draw
from aicn.dev.fields import Fields, parse_fields
from aicn.domain.inference import Kind
from aicn.errors import AicnError, InvalidRequest, TooLarge, UnknownModel
from aicn.gateway.server import address_of, bind
from aicn.gateway.server import serve as serve_app

BODY_BYTES = 32 * 2**20  # largest request, as the node's own default
_GRACE_S = 1.0  # for answers that run when it is stopped
_SIDES = (16, 2048)  # pixels: what is drawn in a tenth of a second
_IMAGES = (1, 10)  # OpenAI's bounds of `n`
_SIZE = re.compile(r"([0-9]{2,4})x([0-9]{2,4})")
_DEFAULT_SIZE = "512x512"
_PICTURE = re.compile(r"/pictures/([0-9a-f]{32})-([0-9]{2,4}x[0-9]{2,4})\.png")
_STATUS: dict[type[AicnError], int] = {UnknownModel: 404, TooLarge: 413}  # all others: 400

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    content_type: str
    body: bytes


class Offered(NamedTuple):
    """A model that the endpoint pretends to have."""

    name: str
    path: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class DemoEndpoint:
    """The application; `address` is where it can be reached, host and port."""

    address: str
    chat_model: str = "demo-chat"
    token_delay_s: float = 0.02  # before each token: a reader sees that it streams

    @property
    def models(self) -> tuple[Offered, ...]:
        """What it has."""
        return (
            Offered(self.chat_model, "/v1/chat/completions", Kind.CHAT),
            Offered("demo-image", "/v1/images/generations", Kind.IMAGE_GENERATION),
            Offered("demo-edit", "/v1/images/edits", Kind.IMAGE_EDIT),
            Offered("demo-embedding", "/v1/embeddings", Kind.EMBEDDING),
        )

    def url(self, path: str) -> str:
        """`path` on this endpoint."""
        return f"http://{self.address}{path}"

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        try:
            answer = await self._answer(scope, receive)
        except AicnError as error:
            answer = refuse(_STATUS.get(type(error), 400), error.message)
        if isinstance(answer, Reply):
            await send(head(answer.status, answer.content_type, len(answer.body)))
            await send({"type": "http.response.body", "body": answer.body})
            return
        await send(head(200, "text/event-stream"))
        async with aclosing(answer) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Reply | AsyncGenerator[bytes, None]:
        method, path = scope["method"], scope["path"]
        if method == "GET" and path == "/v1/models":
            return json_reply(self._list())
        if method == "GET" and (picture := _PICTURE.fullmatch(path)):
            return Reply(200, "image/png", await _draw(picture[1], *_sides(picture[2])))
        offered = next((one for one in self.models if one.path == path), None)
        if offered is None:
            return refuse(404, f"{path[:200]}: there is nothing here; see GET /v1/models")
        if method != "POST":
            return refuse(405, f"{path}: POST is needed")
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        fields = parse_fields(await read(receive), headers.get(b"content-type", ""))
        if fields.text("model", offered.name) != offered.name:
            raise UnknownModel(f"model: there is {offered.name} at {path}, and no other")
        if offered.kind is Kind.CHAT:
            return await self._chat(ChatReply(fields, offered.name))
        if offered.kind is Kind.EMBEDDING:
            return json_reply(embeddings(fields, offered.name))
        return await self._images(fields, offered.kind)

    async def _chat(self, reply: ChatReply) -> Reply | AsyncGenerator[bytes, None]:
        if reply.stream:
            return self._stream(reply)
        await trio.sleep(self.token_delay_s * len(reply.pieces))
        return json_reply(reply.whole())

    async def _stream(self, reply: ChatReply) -> AsyncGenerator[bytes, None]:
        for event in reply.events():
            await trio.sleep(self.token_delay_s)
            yield event

    async def _images(self, fields: Fields, kind: Kind) -> Reply:
        prompt = fields.text("prompt", "")
        if not prompt:
            raise InvalidRequest("prompt: a description of the image is needed")
        source = fields.any("image") or fields.any("image[]")
        if kind is Kind.IMAGE_EDIT and not source:
            raise InvalidRequest("image: the image to edit is needed")
        count = fields.number("n", 1, _IMAGES)
        size = fields.text("size", _DEFAULT_SIZE)
        sides = _sides(_DEFAULT_SIZE if size == "auto" else size)
        inline = fields.text("response_format", "url") == "b64_json"
        seeds = [sha256(f"{i} {source!r} {prompt}".encode(errors="replace")).hexdigest()[:32] for i in range(count)]
        data = [
            {"b64_json": b64encode(await _draw(seed, *sides)).decode()}
            if inline
            else {"url": self.url(f"/pictures/{seed}-{sides[0]}x{sides[1]}.png")}
            for seed in seeds
        ]
        return json_reply(success() | {"created": int(time.time()), "data": data})

    def _list(self) -> dict[str, Any]:
        """Spec 2's list and OpenAI's in one."""
        data = [
            {"model": one.name, "url": self.url(one.path), "id": one.name, "object": "model", "owned_by": "aicn demo"}
            for one in self.models
        ]
        return success() | {"project": "demo", "object": "list", "data": data}


async def serve(endpoint: Callable[[str], DemoEndpoint], port: int, *, ready: Callable[[DemoEndpoint], None]) -> None:
    """Serve on loopback until SIGINT or SIGTERM. `endpoint` is given the address; `ready` is called when it answers. StartupError."""
    listener = bind(f"127.0.0.1:{port}", setting="--port")
    app = endpoint(address_of(listener))
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            run = partial(serve_app, cast("Any", app), Http(), listener, shutdown=stop, grace_s=_GRACE_S)
            await nursery.start(run)
            ready(app)
            await anext(signals)
            stop.set()


async def read(receive: Receive) -> bytes:
    """The body of a request. TooLarge."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise TooLarge(f"the body is larger than {BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def _draw(seed: str, width: int, height: int) -> bytes:
    return await trio.to_thread.run_sync(draw, seed, width, height)


def _sides(size: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(size)
    least, most = _SIDES
    if match is None or not all(least <= int(side) <= most for side in match.groups()):
        raise InvalidRequest(f"size: such as {_DEFAULT_SIZE} is needed, each side of {least} to {most}")
    return int(match[1]), int(match[2])


def json_reply(value: object, status: int = 200) -> Reply:
    """`value` as the whole answer."""
    return Reply(status, "application/json", json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def refuse(status: int, message: str) -> Reply:
    """An error as both dialects have it."""
    return json_reply(refusal(status, message), status)


def head(status: int, content_type: str, length: int | None = None) -> dict[str, Any]:
    """The ASGI message that begins an answer."""
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-cache")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": headers}
