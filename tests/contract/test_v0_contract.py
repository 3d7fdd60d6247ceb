"""Where spec 1 is silent: what clients may rely on, one test per promise, by HTTP against two whole nodes and a scripted endpoint.

What the existing program does wrong (always 200, silence for two minutes, crashes) is what most of these hold against.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from aicn.gateway.v0.errors import TABLE
from tests.fakes.endpoint import (
    Connection,
    Script,
    Scripted,
    answers,
    http_chunk,
    open_fake_endpoint,
    open_scripted,
    response,
    stream_head,
)
from tests.fakes.hosts import PEER_OF_NOBODY, until
from tests.fakes.http import Reply
from tests.fakes.whole import Whole, open_whole

GOOD = b'{"created":1718691167,"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
OK = {"code": 0, "message": "ok"}
OF_A_NODE = ("/peer", "/host/info", "/ai/project/peer", "/chat/completion", "/image/gen", "/image/edit", "/embedding")
MESSAGES = [{"role": "user", "content": "Hello"}]


async def register(node: Whole, url: str, *models: str, project: str = "P", **more: Any) -> Reply:
    return await node.register(*({"model": model, "api": url, **more} for model in models or ("M",)), project=project)


async def projects(node: Whole, of: Whole | None = None) -> Any:
    return (await node.post("/ai/project/peer", {"node_id": (of or node).id})).json["data"]


class World(NamedTuple):
    """`worker` has the model M of the project P, at `endpoint`; `asker` is connected to it and has nothing."""

    asker: Whole
    worker: Whole
    endpoint: Scripted

    @property
    def both(self) -> tuple[Whole, Whole]:
        """From afar, and at the node itself: everything is the same."""
        return self.asker, self.worker


@asynccontextmanager
async def a_world(tmp_path: Path, *scripts: Script, **sections: Any) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with (
            open_scripted(*scripts or (answers(response(200, GOOD)),)) as endpoint,
            open_whole(tmp_path / "worker", **sections) as worker,
            open_whole(tmp_path / "asker", **sections) as asker,
        ):
            await asker.connect(worker)
            assert (await register(worker, endpoint.url("/v1/chat/completions?key=kept"))).json == OK
            yield World(asker, worker, endpoint)


def chat(node: Whole, **changes: Any) -> dict[str, Any]:
    return {"node_id": node.id, "project": "P", "model": "M", "messages": MESSAGES, **changes}


def told(reply: Reply) -> tuple[int, int]:
    return reply.status, reply.json["code"]


def test_each_number_has_its_status() -> None:
    statuses = {1001: {400, 413}, 1002: {400, 415}, 1003: {500}, 1004: {504, 408}, 1005: {404}, 1006: {502, 404, 503},
                1007: {502}, 1009: {401, 403, 429}, 1010: {501}, 1011: {500}, 1015: {500}, 1016: {503},
                1017: {502, 404, 503}, 5000: {500}}  # fmt: skip
    for kind, row in TABLE.items():
        assert row.status in statuses[row.plain], kind
        assert row.status in statuses[row.streamed], kind


@pytest.mark.parametrize("path", OF_A_NODE)
async def test_a_node_id_is_looked_at_before_anybody_is_asked(path: str, tmp_path: Path) -> None:
    body = any_body("")
    async with open_whole(tmp_path) as node:
        for missing in ({}, {"node_id": ""}, {"node_id": None}):
            reply = await node.post(path, {**{k: v for k, v in body.items() if k != "node_id"}, **missing})
            assert told(reply) == (400, 1001)
            assert "node_id" in reply.json["message"]
        for no_id in ("16Uiu2", "Qm", "0" * 46, "x" * 200, 5, [], PEER_OF_NOBODY + "x"):
            with trio.fail_after(2):
                assert told(await node.post(path, body | {"node_id": no_id})) == (400, 1001), no_id


def any_body(node_id: str) -> dict[str, Any]:
    image = {"prompt": "a bird", "image": "https://images.example/bird.png"}
    return {"node_id": node_id, "project": "P", "model": "M", "messages": MESSAGES, "input": "Hello", **image}


async def test_a_node_that_nobody_knows_is_told_as_soon_as_it_is_known(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        for path in OF_A_NODE:
            with trio.fail_after(10):  # the existing program: a closed connection after two minutes
                assert told(await world.asker.post(path, any_body(PEER_OF_NOBODY))) == (404, 1005), path


async def test_the_own_id_is_answered_here(tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        for path in ("/peer", "/host/info", "/ai/project/peer"):
            reply = await node.post(path, {"node_id": node.id})
            assert (reply.status, reply.json["code"], reply.json["message"]) == (200, 0, "ok")
        for path in ("/chat/completion", "/image/gen"):
            reply = await node.post(path, any_body(node.id))
            assert told(reply) == (404, 1006)  # answered: it has no such model (the existing program: 1001 for images)


async def test_bare_answers_and_arrays_that_are_never_null(tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        for path in ("/swarm/peers", "/swarm/addrs", "/pubsub/peers"):
            assert isinstance((await node.post(path)).json, list)
        assert (await node.post("/ai/project/peer", {"node_id": node.id})).json == OK | {"data": []}
        assert (await node.post("/ai/projects/list")).json == OK | {"data": []}
        for path in ("/ai/projects/models", "/ai/projects/peers"):
            assert (await node.post(path, {"project": "nobody's"})).json == OK | {"data": []}


async def test_peers_of_a_project(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await register(world.worker, world.endpoint.url(), "A", "B", project="Q")
        body = {"project": "Q"}
        for model in ({}, {"model": None}, {"model": "A"}):
            [near] = (await world.worker.post("/ai/projects/peers", body | model)).json["data"]
            assert near["node_id"] == world.worker.id
        assert (await world.worker.post("/ai/projects/peers", body | {"model": "C"})).json["data"] == []


@pytest.mark.parametrize("number", ["1", "20", "100", "101", "99999999999999999999"])
async def test_a_number_of_peers(number: str, tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        reply = await node.post(f"/ai/projects/peers?number={number}", {"project": "P"})
        assert (reply.status, reply.json) == (200, OK | {"data": []})


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "%31%30%00", "%D9%A1", "+1", "1e2", "0x10", "1_0"])
async def test_what_is_no_number_of_peers(number: str, tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        reply = await node.post(f"/ai/projects/peers?number={number}", {"project": "P"})
        assert told(reply) == (400, 1001)
        assert "number" in reply.json["message"]


async def test_registering_again_replaces_the_project(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await register(world.worker, world.endpoint.url(), "A", "B")
        await register(world.worker, world.endpoint.url(), "X", project="Q")
        await register(world.worker, world.endpoint.url(), "B", "C")
        expected = [{"project": "P", "models": ["B", "C"]}, {"project": "Q", "models": ["X"]}]
        assert await projects(world.asker, world.worker) == expected


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"model": ""}, "models[1].model"), ({"model": None}, "models[1].model"), ({"api": ""}, "models[1].api"),
        ({"api": None}, "models[1].api"), ({"api": "file:///etc/passwd"}, "models[1].api"), ({"type": 9}, "models[1].type"),
        ({"type": "0"}, "models[1].type"), ({"type": True}, "models[1].type"), ({"api": "http://"}, "models[1].api"),
    ],
)  # fmt: skip
async def test_a_wrong_registration_stores_nothing(entry: dict[str, Any], field: str, tmp_path: Path) -> None:
    good = {"model": "M", "api": "http://127.0.0.1:1/", "type": 0}
    async with open_whole(tmp_path) as node:
        reply = await node.post("/ai/project/register", {"project": "P", "models": [good, good | entry]})
        assert told(reply) == (400, 1001)
        assert field in reply.json["message"]
        assert await projects(node) == []


async def test_unregistering(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        await register(world.worker, world.endpoint.url(), "A", "B", project="Q")
        drop = "/ai/project/unregister"
        assert (await world.worker.post(drop, {"project": "Q", "model": "A"})).json == OK
        assert (
            await world.worker.post(drop, {"project": "P"})
        ).json == OK  # one of several: the existing program crashes
        assert await projects(world.asker, world.worker) == [{"project": "Q", "models": ["B"]}]
        for nothing in ({"project": "P"}, {"project": "Q", "model": "A"}):
            reply = await world.worker.post(drop, nothing)
            assert (reply.status, reply.json) == (200, {"code": 0, "message": "not existed"})


@pytest.mark.parametrize(
    "kind", ["", "application/json", "text/plain", "application/x-www-form-urlencoded", "image/png"]
)
async def test_json_is_read_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    headers = {"content-type": kind} if kind else {}
    async with open_whole(tmp_path) as node:
        reply = await node.post("/ai/project/peer", {"node_id": node.id, "unknown": [1]}, headers)
        assert reply.json == OK | {"data": []}
        refused = await node.post(
            "/ai/project/peer", {"node_id": node.id}, headers | {"origin": "https://evil.example"}
        )
        assert told(refused) == (403, 1009)


async def test_what_a_chat_carries_reaches_the_model_and_what_the_caller_is_does_not(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [
        {"role": "developer", "name": "boss", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": "5"},
    ]
    signed = {"wallet": "0x1", "signature": "0x2", "hash": "0x3"}
    private = {
        "authorization": "Bearer mine",
        "cookie": "session=mine",
        "x-forwarded-for": "10.9.9.9",
        "user-agent": "me",
    }
    async with a_world(tmp_path) as world:
        for node in world.both:
            body = chat(world.worker, messages=messages, top_p=0.5, my_own=[{}], **signed)
            assert (await node.post("/chat/completion", body, private)).json == OK | {"data": json.loads(GOOD)}
            received = world.endpoint.requests[-1]
            assert json.loads(received.body) == {k: v for k, v in body.items() if k not in ("node_id", "project")}
            assert received.headers.keys() <= {"host", "content-type", "content-length", "accept", "accept-encoding"}


async def test_the_query_of_an_endpoint_is_kept(tmp_path: Path) -> None:
    script = answers(stream_head() + http_chunk(EVENT + b"data: [DONE]\n\n") + http_chunk(b""))
    async with a_world(tmp_path, script) as world:
        for node in world.both:
            reply = await node.post("/chat/completion", chat(world.worker, stream=True))
            assert reply.body == EVENT + b"data: [DONE]\n\n"
            assert world.endpoint.requests[-1].target == "/v1/chat/completions?key=kept"


@pytest.mark.parametrize("stream", [False, True])
async def test_no_such_model_and_an_endpoint_that_is_down(stream: bool, tmp_path: Path) -> None:
    number = 1017 if stream else 1006
    async with a_world(tmp_path) as world:
        async with open_scripted(answers(b"")) as gone:
            await register(world.worker, gone.url(), "down", project="Q")
        for node in world.both:
            body = chat(world.worker, stream=stream)
            assert told(await node.post("/chat/completion", body | {"model": "other"})) == (404, number)
            down = await node.post("/chat/completion", body | {"project": "Q", "model": "down"})
            assert told(down) == (502, number)
            assert down.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (response(500, b"CUDA out of memory"), ("500", "CUDA out of memory")),
        (response(200, b"{}"), ("without choices",)),
        (response(200, b'{"code":0,"choices":null}'), ("without choices",)),
        (response(200, b'{"code":1234,"message":"no tokens left","choices":[{}]}'), ("1234", "no tokens left")),
        (response(200, b"<html>", "text/html"), ()),
    ],
    ids=["500", "empty", "null", "own-code", "html"],
)
async def test_an_endpoint_that_fails(script: bytes, said: tuple[str, ...], tmp_path: Path) -> None:
    async with a_world(tmp_path, answers(script)) as world:
        for node in world.both:
            plain = await node.post("/chat/completion", chat(world.worker))
            streamed = await node.post("/chat/completion", chat(world.worker, stream=True))
            assert (told(plain), told(streamed)) == ((502, 1006), (502, 1017))
            for text in said:
                assert text in plain.json["message"]
                assert text in streamed.json["message"] or script.startswith(b"HTTP/1.1 200")


async def test_a_stream_that_breaks_says_so(tmp_path: Path) -> None:
    async with a_world(tmp_path, answers(stream_head() + http_chunk(EVENT))) as world:  # and then the connection ends
        for node in world.both:
            reply = await node.post("/chat/completion", chat(world.worker, stream=True))
            assert (reply.status, reply.complete) == (200, True)
            assert reply.body.startswith(EVENT + b"event: error\ndata: ")
            assert json.loads(reply.body.rsplit(b"data: ", 1)[1])["code"] == 1017
            assert b"[DONE]" not in reply.body


async def test_a_body_over_the_limit(tmp_path: Path) -> None:
    async with a_world(tmp_path, http={"body_bytes": 2**21}) as world:
        for node in world.both:
            fits = chat(world.worker, messages=[{"role": "user", "content": "x" * 1_500_000}])
            assert (await node.post("/chat/completion", fits)).status == 200  # over 1 MiB the existing program loses it
            over = chat(world.worker, messages=[{"role": "user", "content": "x" * 2**21}])
            assert told(await node.post("/chat/completion", over)) == (413, 1001)


async def test_disconnecting(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        stranger = await world.asker.post(
            "/swarm/disconnect", {"node_addr": f"/ip4/10.0.0.1/tcp/1/p2p/{PEER_OF_NOBODY}"}
        )
        assert told(stranger) == (500, 5000)
        assert "not connected" in stranger.json["message"] or "no connection" in stranger.json["message"]
        assert told(await world.asker.post("/swarm/disconnect", {"node_addr": "no multiaddr"})) == (400, 1001)
        address = f"/ip4/127.0.0.1/tcp/1/p2p/{world.worker.id}"
        assert (await world.asker.post("/swarm/disconnect", {"node_addr": address})).json == OK
        await until(lambda: not world.worker.node.peers.connections())


@pytest.mark.parametrize("path", ["/chat/completion/proxy", "/image/gen/proxy"])
async def test_no_node_for_a_project(path: str, tmp_path: Path) -> None:
    async with open_whole(tmp_path) as node:
        reply = await node.post(path, any_body("ignored"))
        assert told(reply) == (503, 1016)
        assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
async def test_all_nodes_of_a_project_fail(stream: bool, tmp_path: Path) -> None:
    async with a_world(tmp_path, answers(response(500, b"CUDA out of memory"))) as world:
        reply = await world.worker.post("/chat/completion/proxy", chat(world.worker, stream=stream))
        assert told(reply) == (503, 1016)
        assert world.worker.id[-8:] in reply.json["message"]  # who failed …
        assert "CUDA out of memory" in reply.json["message"]  # … and how


async def test_a_directory_that_is_switched_off(tmp_path: Path) -> None:
    async with open_whole(tmp_path, directory={"enabled": False}) as node:
        for path in ("/ai/projects/list", "/ai/projects/models", "/ai/projects/peers"):
            assert told(await node.post(path, {"project": "P"})) == (501, 1010), path


async def refuses(connection: Connection) -> None:
    """An IPFS node that is alive and takes nothing."""
    while (request := await connection.receive_request()) is not None:
        version = b'{"Version":"0.22.0","Commit":"","Repo":"14"}'
        refused = b'{"Message":"disk full","Code":0,"Type":"error"}'
        await connection.send(response(200, version) if "version" in request.target else response(500, refused))


async def test_images_without_an_ipfs_node_with_a_dead_one_and_with_one_that_refuses(tmp_path: Path) -> None:
    async with open_scripted(answers(b"")) as gone:
        dead = gone.url("")
    async with open_fake_endpoint() as painter, open_scripted(refuses) as kubo:
        nodes = {"": (502, 1006), dead: (502, 1006), kubo.url(""): (502, 1007)}
        for number, (api, expected) in enumerate(nodes.items()):
            async with open_whole(tmp_path / str(number), ipfs={"api": api}) as node:
                await register(node, painter.images_url, type=1)
                reply = await node.post("/image/gen", any_body(node.id))
                assert told(reply) == expected, reply.body
                assert api or "ipfs.api" in reply.json["message"]  # what to configure
                inline = await node.post("/image/gen", any_body(node.id) | {"response_format": "b64_json"})
                assert (inline.status, list(inline.json["data"]["choices"][0])) == (200, ["b64_json"])
