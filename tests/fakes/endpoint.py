"""Fake model endpoints on loopback, for tests.

`open_fake_endpoint()` is a well-behaved OpenAI chat endpoint that counts what it does and notices clients that leave:

    async with open_fake_endpoint(tokens=20, delay_s=0.02) as endpoint:
        register(endpoint.url)                        # POST, plain or `"stream": true`
        endpoint.tokens = 5                           # every attribute may be changed while it runs
        ...
        await endpoint.wait_cancelled()               # until a client has hung up on an answer

It draws, too, at `endpoint.images_url`: PNGs answered as `endpoint.dialect` says, "url" or "b64_json", in the form of spec 2;
`draw_png(number)` makes the same ones, numbered from 0 in the order in which they were asked for.

`?tokens=` `&delay=` `&first=` (milliseconds) in the URL win over the attributes; `GET /stats` answers the counters as JSON.
`python -m tests.fakes.endpoint [--port N] [--tokens N] [--delay-ms N] [--first-ms N]` runs it as a process of its own; its first
line of output is its URL.

`open_scripted(script, …)` is a raw TCP server for everything that a well-behaved endpoint never does: the first connection is
given to the first script, and so on; the last script serves all further ones. `answers(b"HTTP/1.1 …", …)` makes the usual script:

    async with open_scripted(answers(response(500, b"out of memory"))) as server:
        ... server.url("/v1/chat/completions"), server.requests[0].body
"""

from __future__ import annotations

import argparse
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import h11
import trio

from tests.fakes.png import draw_png

SSE = "text/event-stream; charset=utf-8"


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    target: str  # path and query
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Connection:
    """The server's side of one connection, given to a script."""

    stream: trio.abc.Stream
    server: Scripted
    _early: bytearray = field(default_factory=bytearray)  # came before it was asked for: the next request

    async def receive_request(self) -> Received | None:
        """The next request with its whole body; None when the client closed instead."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        body = bytearray()
        head: h11.Request | None = None
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(self._early) or await self.stream.receive_some(65536))
                self._early.clear()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                return None
            else:
                break
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        received = Received(head.method.decode(), head.target.decode(), headers, bytes(body))
        self.server.requests.append(received)
        return received

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def wait_closed(self) -> None:
        """Returns when the client has closed or reset the connection."""
        try:
            while data := await self.stream.receive_some(65536):
                self._early += data
        except trio.BrokenResourceError:
            pass
        self.server.hung_up.set()


Script = Callable[[Connection], Awaitable[None]]


@dataclass
class Scripted:
    """A raw server and what it saw."""

    port: int
    host: str = "127.0.0.1"
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    hung_up: trio.Event = field(default_factory=trio.Event)  # set by Connection.wait_closed

    def url(self, path: str = "/v1/chat/completions") -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{path}"


def response(status: int, body: bytes, content_type: str = "application/json", *headers: str) -> bytes:
    """A whole response with a Content-Length; `headers` are further lines."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream_head(*headers: str) -> bytes:
    """The head of a chunked event stream."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {SSE}", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body; b"" makes the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answers(*pieces: bytes, then_wait: bool = False) -> Script:
    """A script that answers each request of a connection with `pieces`, one write each.

    The connection is closed afterwards unless the answer has a Content-Length; `then_wait` waits for the client to close it.
    """

    async def script(connection: Connection) -> None:
        while await connection.receive_request() is not None:
            for piece in pieces:
                await connection.send(piece)
            if then_wait:
                await connection.wait_closed()
            if b"Content-Length" not in pieces[0]:
                return

    return script


@asynccontextmanager
async def open_scripted(
    *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Scripted]:
    """A raw server on a free port of `host`, gone with the block; a script ends its connection by returning, or by trio.BrokenResourceError."""
    listeners = await trio.open_tcp_listeners(0, host=host)
    server = Scripted(listeners[0].socket.getsockname()[1], host, "https" if tls else "http")

    async def serve(raw: trio.SocketStream) -> None:
        script = scripts[min(server.connections, len(scripts) - 1)]
        server.connections += 1
        stream = trio.SSLStream(raw, tls, server_side=True, https_compatible=True) if tls else raw
        try:
            await script(Connection(stream, server))
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(raw)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


@dataclass
class FakeEndpoint:
    """A well-behaved OpenAI chat endpoint: its behaviour, to be changed at will, and its counters."""

    port: int
    tokens: int = 8  # per answer: "tok0 tok1 …"
    delay_s: float = 0.0  # before each token
    first_s: float = 0.0  # before the head
    open: int = 0  # answers at work
    total: int = 0  # answers ever begun
    cancelled: int = 0  # answers whose client left before the end
    bodies: list[bytes] = field(default_factory=list)  # of the requests, in order
    content_types: list[str] = field(default_factory=list)  # of the same
    dialect: str = "url"  # of image answers
    drawn: int = 0  # images
    _left: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    @property
    def images_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/images/generations"

    @property
    def stats(self) -> dict[str, int]:
        return {"open": self.open, "total": self.total, "cancelled": self.cancelled}

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(f"tok{i} " for i in range(self.tokens))

    async def wait_cancelled(self, count: int = 1, *, within: float = 1.0) -> None:
        """Until `count` clients have left; trio.TooSlowError when they did not within `within` seconds."""
        with trio.fail_after(within):
            while self.cancelled < count:
                await self._left.wait()

    def _note_cancelled(self) -> None:
        self.cancelled += 1
        self._left.set()
        self._left = trio.Event()


@asynccontextmanager
async def open_fake_endpoint(
    *, tokens: int = 8, delay_s: float = 0.0, first_s: float = 0.0, port: int = 0
) -> AsyncIterator[FakeEndpoint]:
    """A well-behaved endpoint on 127.0.0.1, gone with the block."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    endpoint = FakeEndpoint(listeners[0].socket.getsockname()[1], tokens, delay_s, first_s)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await _serve_connection(endpoint, stream)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        try:
            yield endpoint
        finally:
            nursery.cancel_scope.cancel()


async def _serve_connection(endpoint: FakeEndpoint, stream: trio.SocketStream) -> None:
    connection = Connection(stream, Scripted(endpoint.port))
    while (request := await connection.receive_request()) is not None:
        if request.target == "/stats":
            await stream.send_all(response(200, json.dumps(endpoint.stats).encode()))
            continue
        if request.method == "GET":  # an image that was answered as a URL
            number = int(request.target.removeprefix("/drawn/").removesuffix(".png"))
            await stream.send_all(response(200, draw_png(number), "image/png"))
            continue
        endpoint.bodies.append(request.body)
        endpoint.content_types.append(request.headers.get("content-type", ""))
        endpoint.open += 1
        endpoint.total += 1
        finished = False
        try:
            async with (
                trio.open_nursery() as nursery
            ):  # a client that leaves ends the work: a byte or EOF is its only sign

                async def watch(scope: trio.CancelScope = nursery.cancel_scope) -> None:
                    await connection.wait_closed()
                    scope.cancel()

                nursery.start_soon(watch)
                await _answer(endpoint, stream, request)
                finished = True
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass
        finally:
            endpoint.open -= 1
        if not finished:
            endpoint._note_cancelled()
            return


async def _answer(endpoint: FakeEndpoint, stream: trio.SocketStream, request: Received) -> None:
    query = parse_qs(urlsplit(request.target).query)
    tokens = int(query.get("tokens", [str(endpoint.tokens)])[0])
    delay_s = float(query["delay"][0]) / 1000 if "delay" in query else endpoint.delay_s
    first_s = float(query["first"][0]) / 1000 if "first" in query else endpoint.first_s
    if "/images/" in request.target:
        await trio.sleep(first_s)
        await stream.send_all(response(200, _draw(endpoint, request)))
        return
    asked = json.loads(request.body)
    model = asked.get("model", "")
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    await trio.sleep(first_s)
    if not asked.get("stream"):
        await trio.sleep(delay_s * tokens)
        message = {"role": "assistant", "content": "".join(f"tok{i} " for i in range(tokens))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {
            "id": "fake",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage,
        }
        await stream.send_all(response(200, json.dumps(body).encode()))
        return
    await stream.send_all(stream_head())
    for i in range(tokens):
        await trio.sleep(delay_s)
        await stream.send_all(http_chunk(_event(model, {"content": f"tok{i} "}, None)))
    last = _event(model, {}, "stop", usage) + b"data: [DONE]\n\n"
    await stream.send_all(http_chunk(last) + http_chunk(b""))


def _draw(endpoint: FakeEndpoint, request: Received) -> bytes:
    """Spec 2's answer with as many images as were asked for; one to a form."""
    is_json = request.headers.get("content-type", "").startswith("application/json")
    count = json.loads(request.body).get("n", 1) if is_json else 1
    data = []
    for number in range(endpoint.drawn, endpoint.drawn + count):
        if endpoint.dialect == "url":
            data.append({"url": f"http://127.0.0.1:{endpoint.port}/drawn/{number}.png"})
        else:
            data.append({"b64_json": base64.b64encode(draw_png(number)).decode(), "revised_prompt": "a square"})
    endpoint.drawn += count
    return json.dumps({"code": 0, "message": "success", "created": 1589478378, "data": data}).encode()


def _event(model: str, delta: dict[str, str], finish: str | None, usage: dict[str, int] | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "fake", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    if usage is not None:
        event["usage"] = usage
    return f"data: {json.dumps(event)}\n\n".encode()


async def _run(arguments: argparse.Namespace) -> None:
    async with open_fake_endpoint(
        tokens=arguments.tokens,
        delay_s=arguments.delay_ms / 1000,
        first_s=arguments.first_ms / 1000,
        port=arguments.port,
    ) as endpoint:
        print(endpoint.url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fake OpenAI chat endpoint on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--first-ms", type=float, default=0)
    trio.run(_run, parser.parse_args())
