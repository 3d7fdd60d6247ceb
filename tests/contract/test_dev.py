"""`aicn dev`: the demo endpoint passes its own check, and the check names what is wrong with others."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from aicn.config.schema import Http
from aicn.dev.check import check_endpoint
from aicn.dev.checking import Finding
from aicn.dev.drawing import draw
from aicn.dev.endpoint import DemoEndpoint
from aicn.dev.pictures import sides_of
from aicn.gateway.server import address_of, bind, serve
from tests.fakes.endpoint import Connection, Script, http_chunk, open_scripted, response, stream_head
from tests.fakes.hosts import until
from tests.fakes.http import Client
from tests.fakes.whole import open_whole

PATHS = ["/v1/chat/completions", "/v1/images/generations", "/v1/images/edits", "/v1/embeddings"]
KEY = "sk-s3cret"


@asynccontextmanager
async def open_demo() -> AsyncIterator[DemoEndpoint]:
    listener = bind("127.0.0.1:0")
    demo = DemoEndpoint(address_of(listener), token_delay_s=0)
    stop = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, cast("Any", demo), Http(), listener, shutdown=stop, grace_s=0))
            yield demo
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(demo: DemoEndpoint) -> AsyncIterator[Client]:
    client = await Client.connect(demo.address)
    try:
        yield client
    finally:
        await client.aclose()


async def examine(url: str, **changes: Any) -> tuple[bool, dict[str, Finding]]:
    found: list[Finding] = []
    options = {"kind": None, "model": "m", "api_key": KEY, "size": "64x48", "within_s": 10.0} | changes
    with trio.fail_after(60):
        good = await check_endpoint(url, tell=found.append, **options)
    assert not any(KEY in finding.text or "p4ss" in finding.text for finding in found)
    return good, {finding.name: finding for finding in found}


@pytest.mark.parametrize("path", PATHS)
async def test_the_demo_endpoint_passes_the_check(path: str) -> None:
    async with open_demo() as demo:
        good, found = await examine(demo.url(path), model="")
    assert good
    assert {finding.verdict for finding in found.values()} == {"ok"}


async def test_what_the_demo_endpoint_answers() -> None:
    async with open_demo() as demo, open_client(demo) as client:
        listed = (await client.request("GET", "/v1/models")).json
        assert listed["project"] == "demo"
        assert [(one["model"], one["id"], one["url"]) for one in listed["data"]] == [
            (one.name, one.name, demo.url(one.path)) for one in demo.models
        ]
        parts = [{"type": "text", "text": "Grüß Gott"}, {"type": "image_url", "image_url": {}}]
        chat = {"model": "demo-chat", "messages": [{"role": "user", "content": parts}]}
        answer = (await client.request("POST", PATHS[0], chat)).json
        assert answer["code"] == 0
        assert "demo endpoint" in answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["message"]["content"].endswith("Grüß Gott")
        assert answer["usage"]["total_tokens"] == sum(answer["usage"].values()) - answer["usage"]["total_tokens"]
        short = (await client.request("POST", PATHS[0], chat | {"max_tokens": 2})).json
        assert short["choices"][0]["finish_reason"] == "length"
        drawn = {"prompt": "a bird", "n": 2, "size": "100x60"}
        inline = (await client.request("POST", PATHS[1], drawn | {"response_format": "b64_json"})).json["data"]
        linked = (await client.request("POST", PATHS[1], drawn)).json["data"]
        for one, other in zip(inline, linked, strict=True):
            picture = (await client.request("GET", other["url"].removeprefix(demo.url("")))).body
            assert picture == b64decode(one["b64_json"])
            assert sides_of(picture) == (100, 60)
        assert inline[0] != inline[1]
        packed = {"input": "hello", "dimensions": 3, "encoding_format": "base64"}
        vector = (await client.request("POST", PATHS[3], packed)).json["data"][0]["embedding"]
        assert len(b64decode(vector)) == 12


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (PATHS[0], b"[]", 400, "no JSON object"),
        (PATHS[0], {"model": "x", "messages": [{}]}, 404, "model: "),
        (PATHS[0], {"messages": []}, 400, "messages: "),
        (PATHS[0], {"messages": [{}], "max_tokens": 0}, 400, "max_tokens: "),
        (PATHS[1], {}, 400, "prompt: "),
        (PATHS[1], {"prompt": "x", "n": 11}, 400, "n: "),
        (PATHS[1], {"prompt": "x", "n": True}, 400, "n: "),
        (PATHS[1], {"prompt": "x", "size": "9999x9999"}, 400, "size: "),
        (PATHS[1], {"prompt": 5}, 400, "prompt: "),
        (PATHS[2], {"prompt": "x"}, 400, "image: "),
        (PATHS[3], {"input": []}, 400, "input: "),
        (PATHS[3], {"input": "x", "dimensions": 5000}, 400, "dimensions: "),
        ("/v1/chat", {}, 404, "nothing here"),
    ],
)
async def test_what_the_demo_endpoint_refuses(path: str, body: object, status: int, words: str) -> None:
    async with open_demo() as demo, open_client(demo) as client:
        reply = await client.request("POST", path, body)
        assert (reply.status, reply.json["code"]) == (status, status)
        assert words in reply.json["message"]
        assert reply.json["error"]["message"] == reply.json["message"]


async def test_a_node_with_the_demo_endpoint_serves_every_kind(tmp_path: Path) -> None:
    async with open_demo() as demo, open_whole(tmp_path) as node:
        for kind, one in enumerate(demo.models):
            assert (
                await node.register(
                    {"model": one.name, "api": demo.url(one.path), "type": kind}, project=f"demo-{kind}"
                )
            ).status == 200
        await until(lambda: len(node.node.directory.catalog.projects()) == 4)
        chat = {"project": "demo-0", "model": "demo-chat", "messages": [{"role": "user", "content": "Hello"}]}
        assert (
            "demo endpoint"
            in (await node.post("/chat/completion/proxy", chat)).json["data"]["choices"][0]["message"]["content"]
        )
        assert (await node.post("/chat/completion/proxy", chat | {"stream": True})).body.endswith(b"data: [DONE]\n\n")
        image = {
            "project": "demo-1",
            "model": "demo-image",
            "prompt": "a bird",
            "n": 2,
            "width": 64,
            "height": 48,
            "response_format": "b64_json",
        }
        drawn = (await node.post("/image/gen/proxy", image)).json["data"]["choices"]
        assert [sides_of(b64decode(one["b64_json"])) for one in drawn] == [(64, 48)] * 2
        edit = image | {
            "node_id": node.id,
            "project": "demo-2",
            "model": "demo-edit",
            "image": "https://example.org/x.png",
        }
        assert len((await node.post("/image/edit", edit)).json["data"]["choices"]) == 2
        embed = {"node_id": node.id, "project": "demo-3", "model": "demo-embedding", "input": "hello"}
        assert len((await node.post("/embedding", embed)).json["data"]["data"][0]["embedding"]) == 64


# ------------------------------------------------------------------------------------------ deliberate defects

CHAT = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
USAGE = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
DELTA = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"total_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
REFUSED = response(404, b'{"error":{"message":"no such model"}}')


def streamed(*events: bytes) -> bytes:
    return stream_head() + b"".join(http_chunk(event) for event in events) + http_chunk(b"")


def answered(value: object, *, status: int = 200) -> bytes:
    return response(status, json.dumps(value).encode())


def endpoint(
    *, plain: bytes = answered(CHAT | USAGE), stream: bytes = streamed(DELTA, DONE), unknown: bytes = REFUSED
) -> Script:
    """A server that answers each kind of request as given, and refuses an empty one."""

    async def script(connection: Connection) -> None:
        while (request := await connection.receive_request()) is not None:
            body = json.loads(request.body or b"{}")
            if not body:
                await connection.send(answered({"error": "empty"}, status=400))
            elif body["model"] != "m":
                await connection.send(unknown)
            else:
                await connection.send(stream if body.get("stream") else plain)

    return script


@pytest.mark.parametrize(
    ("defect", "name", "verdict", "words"),
    [
        ({}, "plain chat", "ok", "2 characters"),
        ({"plain": answered({})}, "plain chat", "FAILED", "without choices"),
        ({"plain": answered({"choices": []})}, "plain chat", "FAILED", "without choices"),
        ({"plain": answered({"choices": [{"text": "Hi"}]})}, "plain chat", "FAILED", "choices[0].message"),
        ({"plain": answered({"code": 7, "message": "worn out"} | CHAT)}, "plain chat", "FAILED", "code 7: worn out"),
        ({"plain": answered({"code": None} | CHAT)}, "plain chat", "ok", "2 characters"),
        ({"plain": response(200, b'{"choices":[{},],}')}, "plain chat", "FAILED", "no JSON object"),
        ({"plain": response(500, b"<h1>out of memory</h1>")}, "plain chat", "FAILED", "out of memory"),
        ({"plain": answered({"error": f"wrong key {KEY}"}, status=400)}, "plain chat", "FAILED", "(status 400)"),
        ({"plain": answered(CHAT)}, "usage", "advice", "count tokens"),
        ({"stream": answered(CHAT)}, "streamed chat", "FAILED", "does not stream"),
        ({"stream": streamed(DELTA)}, "streamed chat", "FAILED", "without [DONE]"),
        ({"stream": streamed(DELTA[:-1], DELTA, DONE)}, "streamed chat", "FAILED", "empty line behind each event"),
        ({"stream": streamed(b"data: {}\n\n", DONE)}, "streamed chat", "FAILED", "event 1 has no choices"),
        (
            {"stream": streamed(b'data: {"error":{"message":"worn out"}}\n\n', DONE)},
            "streamed chat",
            "FAILED",
            "worn out",
        ),
        ({"stream": streamed(b'data: {"choices":[]}\n\n', DONE)}, "streamed chat", "FAILED", "nothing was said"),
        ({"unknown": answered({})}, "unknown model", "FAILED", "neither an answer nor an error"),
        ({"unknown": answered({"code": 5, "message": "who?"})}, "unknown model", "ok", "code 5: who?"),
        ({"unknown": answered(CHAT)}, "model name", "advice", "goes unnoticed"),
        ({"unknown": response(500, b"oops")}, "error text", "advice", "status 500"),
    ],
)
async def test_each_defect_of_a_chat_endpoint_is_named(
    defect: dict[str, bytes], name: str, verdict: str, words: str
) -> None:
    async with open_scripted(endpoint(**defect)) as server:
        good, found = await examine(server.url().replace("http://", "http://me:p4ss@"))
    assert (found[name].verdict, words in found[name].text) == (verdict, True), found[name]
    assert good is (verdict != "FAILED")
    if verdict == "FAILED":
        assert [finding.name for finding in found.values() if finding.verdict == "FAILED"] == [name]


def images(*items: dict[str, str]) -> bytes:
    return answered({"created": 1, "data": list(items)})


def inline(data: bytes) -> dict[str, str]:
    return {"b64_json": b64encode(data).decode()}


@pytest.mark.parametrize(
    ("plain", "name", "words"),
    [
        (images(), "one image", "without images"),
        (images({"url": "/tmp/x.png"}), "one image", "no http URL"),
        (images({"url": "http://127.0.0.1:1/x.png"}), "one image", "GET failed"),
        (images(inline(b"<html>")), "one image", "no image"),
        (images({"b64_json": "*"}), "one image", "not base64"),
        (images(inline(draw("x", 32, 32))), "one image", "32x32 answered"),
        (images(inline(draw("x", 64, 48))), "two images", "2 asked for, 1 answered"),
    ],
)
async def test_each_defect_of_an_image_endpoint_is_named(plain: bytes, name: str, words: str) -> None:
    async with open_scripted(endpoint(plain=plain)) as server:
        good, found = await examine(server.url("/v1/images/generations"))
    assert not good
    assert [(one.name, words in one.text) for one in found.values() if one.verdict == "FAILED"] == [(name, True)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "without data"),
        ([{"embedding": []}], "data[0].embedding"),
        ([{"embedding": ["a"]}], "data[0].embedding"),
        ([{"embedding": None}], "data[0].embedding"),
    ],
)
async def test_each_defect_of_an_embedding_endpoint_is_named(data: list[object], words: str) -> None:
    async with open_scripted(endpoint(plain=answered({"data": data}))) as server:
        good, found = await examine(server.url("/v1/embeddings"))
    assert not good
    assert words in found["one text"].text


async def test_nobody_there_and_no_models() -> None:
    good, found = await examine("http://127.0.0.1:1/v1/chat/completions")
    assert not good
    assert list(found) == ["reachable"]
    async with open_scripted(endpoint()) as server:
        good, found = await examine(server.url("/ask"), model="")
    assert not good
    assert "--model" in found["models"].text
