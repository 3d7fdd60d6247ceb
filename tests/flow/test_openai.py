"""`/v1` of one node, models of another: whole nodes in this process, real endpoints."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from aicn.domain.inference import Part
from aicn.wire.form import encode_form
from tests.fakes.endpoint import (
    FakeEndpoint,
    Scripted,
    answers,
    http_chunk,
    open_fake_endpoint,
    open_scripted,
    response,
    stream_head,
)
from tests.fakes.hosts import until
from tests.fakes.http import Client, Reply
from tests.fakes.png import draw_png
from tests.fakes.whole import Whole, open_whole

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "M", "messages": MESSAGES}
STREAM = CHAT | {"stream": True}
TEXT = b'{"object":"text_completion", "choices":[{"index":0,"text":" upon","finish_reason":"stop"}],"usage":{"total_tokens":1}}'
VECTORS = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPw=="}],"model":"e"}'
EVENT = b'data: {"choices":[{"text":" upon"}]}\n\n'
SAID = b'data: {"choices":[{"index":0,"delta":{"content":" upon"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class World(NamedTuple):
    """`asker` is connected to `worker`, whose models are at `endpoint`, and asked over `/v1`."""

    asker: Whole
    worker: Whole
    endpoint: FakeEndpoint

    async def register(self, *models: dict[str, Any], project: str = "P") -> None:
        """Both nodes know of them when it returns."""
        assert (await self.worker.register(*models, project=project)).status == 200
        for node in (self.asker, self.worker):
            names = {(project, str(model["model"])) for model in models}
            await until(lambda node=node, names=names: names <= known(node))

    async def ask(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        return await self.asker.request("POST", f"/v1{path}", body, headers)


def known(node: Whole) -> set[tuple[str, str]]:
    catalog = node.node.directory.catalog
    return {(project, model) for project in catalog.projects() for model in catalog.models(project)}


@asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with (
            open_fake_endpoint(tokens=4) as endpoint,
            open_whole(directory / "asker") as asker,
            open_whole(directory / "worker") as worker,
        ):
            await asker.connect(worker)
            world = World(asker, worker, endpoint)
            images = endpoint.images_url
            await world.register(
                {"model": "M", "api": endpoint.url, "type": 0},
                {"model": "org/draw", "api": images, "type": 1},
                {"model": "edit", "api": images, "type": 2},
            )
            yield world


async def test_chats_of_another_node_and_of_ones_own(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for node in (world.asker, world.worker):
            for model, sent in (("M", "M"), ("P/M", "M")):
                plain = await node.request("POST", "/v1/chat/completions", CHAT | {"model": model, "seed": 7})
                assert plain.json["choices"][0]["message"]["content"] == "tok0 tok1 tok2 tok3 "
                assert plain.json["usage"]["total_tokens"] == 9
                assert plain.headers["x-aicn-node"] == world.worker.id
                assert "worker;dur=" in plain.headers["server-timing"]
                assert json.loads(world.endpoint.bodies[-1]) == CHAT | {"model": sent, "seed": 7}
            streamed = await node.request("POST", "/v1/chat/completions", STREAM)
            assert streamed.headers["content-type"] == "text/event-stream"
            assert streamed.body.count(b"data: {") == 5
            assert streamed.body.endswith(DONE)


@pytest.mark.parametrize("stage", ["?first=20000", "?tokens=1000&delay=20"])
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "streamed"])
async def test_a_client_that_leaves_stops_the_endpoint(tmp_path: Path, stage: str, body: dict[str, object]) -> None:
    async with a_world(tmp_path) as world:
        await world.register({"model": "slow", "api": world.endpoint.url + stage, "type": 0}, project="Slow")
        client = await Client.connect(world.asker.address)
        await client.ask("POST", "/v1/chat/completions", json.dumps(body | {"model": "slow"}).encode())
        if body is STREAM and "tokens" in stage:
            await client.head()
            assert await client.piece()
        else:
            await until(lambda: world.endpoint.open)
        await client.aclose()
        with trio.fail_after(5):
            await world.endpoint.wait_cancelled()


async def test_a_stream_that_breaks_ends_with_an_error_and_without_done(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world, open_scripted(answers(stream_head() + http_chunk(SAID))) as server:
        await world.register({"model": "breaks", "api": server.url("/any"), "type": 0}, project="B")
        tools = {"tools": [{"type": "function", "function": {"name": "f"}}]}  # nobody goes on with such an answer
        reply = await world.ask("/chat/completions", STREAM | tools | {"model": "breaks"})
        assert reply.status == 200
        assert reply.body.startswith(SAID + b'data: {"error":{"message":')
        assert DONE not in reply.body
        error = json.loads(reply.body.rpartition(b"data: ")[2])["error"]
        assert (error["type"], error["request_id"]) == ("server_error", reply.headers["x-request-id"])


@asynccontextmanager
async def a_text_server(stream: bool) -> AsyncIterator[Scripted]:
    whole = stream_head() + http_chunk(EVENT) + http_chunk(DONE) + http_chunk(b"")
    async with open_scripted(answers(whole if stream else response(200, TEXT))) as server:
        yield server


@pytest.mark.parametrize("stream", [False, True])
async def test_texts_that_go_on(tmp_path: Path, stream: bool) -> None:
    body = {"model": "text", "prompt": "Once", "stream": stream}
    async with a_world(tmp_path) as world, a_text_server(stream) as server:
        await world.register({"model": "text", "api": server.url(), "type": 0}, project="T")
        reply = await world.ask("/completions", body)
        assert (reply.status, reply.body) == (200, EVENT + DONE if stream else TEXT)
        (request,) = server.requests
        assert (request.target, json.loads(request.body)) == ("/v1/completions", body)
        await world.register({"model": "text", "api": server.url("/own"), "type": 0}, project="T")
        reply = await world.ask("/completions", body)
        assert "does not end in /chat/completions" in reply.json["error"]["message"]
        assert len(server.requests) == 1


async def test_vectors(tmp_path: Path) -> None:
    body = {"model": "e", "input": ["a"], "encoding_format": "base64"}
    async with a_world(tmp_path) as world, open_scripted(answers(response(200, VECTORS))) as server:
        await world.register({"model": "e", "api": server.url("/v1/embeddings"), "type": 3}, project="E")
        reply = await world.ask("/embeddings", body)
        assert (reply.status, reply.body) == (200, VECTORS)
        assert json.loads(server.requests[0].body) == body


@pytest.mark.parametrize("dialect", ["url", "b64_json"])
async def test_images(tmp_path: Path, dialect: str) -> None:
    async with a_world(tmp_path) as world:
        world.endpoint.dialect = dialect
        reply = await world.ask("/images/generations", {"model": "org/draw", "prompt": "a sea", "n": 2})
        assert reply.status == 200, reply.body
        assert [base64.b64decode(one["b64_json"]) for one in reply.json["data"]] == [draw_png(0), draw_png(1)]
        assert reply.json["created"] == 1589478378
        content_type, form = encode_form(
            {"model": "P/edit", "prompt": "blue", "response_format": "url"},
            [Part("image", "a.png", "image/png", draw_png(5)), Part("mask", "m.png", "image/png", draw_png(6))],
        )
        reply = await world.ask("/images/edits", form, {"content-type": content_type})
        assert reply.json["data"] == [{"url": f"data:image/png;base64,{base64.b64encode(draw_png(2)).decode()}"}]
        assert world.endpoint.content_types[-1].startswith("multipart/form-data")
        assert draw_png(5) in world.endpoint.bodies[-1]
        assert b"\r\n\r\nedit\r\n" in world.endpoint.bodies[-1]


async def test_models_come_and_go(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for node in (world.asker, world.worker):
            listed = (await node.request("GET", "/v1/models")).json["data"]
            assert [(one["id"], one["owned_by"], one["nodes"]) for one in listed] == [
                ("M", "P", 1), ("edit", "P", 1), ("org/draw", "P", 1)]  # fmt: skip
        assert (await world.asker.register({"model": "M", "api": world.endpoint.url}, project="Q")).status == 200
        reply = await world.ask("/chat/completions", CHAT)
        assert (reply.status, reply.json["error"]["param"]) == (400, "model")
        for name, node in (("P/M", world.worker), ("Q/M", world.asker)):
            reply = await world.ask("/chat/completions", CHAT | {"model": name})
            assert (reply.status, reply.headers["x-aicn-node"]) == (200, node.id)
        await world.asker.post("/ai/project/unregister", {"project": "Q"})
        assert (await world.ask("/chat/completions", CHAT)).headers["x-aicn-node"] == world.worker.id
