"""Images between two whole nodes in one process, with real endpoints, and kubo where it is needed."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from aicn import compose
from aicn.config.load import load
from aicn.domain.inference import Part
from aicn.gateway.app import create_app
from aicn.gateway.server import bind, serve
from aicn.node import Node
from aicn.wire.form import decode_form, encode_form
from tests.e2e.nodes import write_node
from tests.fakes.endpoint import Connection, FakeEndpoint, answers, open_fake_endpoint, open_scripted, response
from tests.fakes.http import Client, Reply
from tests.fakes.kubo import running_kubo
from tests.fakes.png import draw_png

WITHIN_S = 60  # for a whole test on a loaded machine


@dataclass
class Whole:
    """A node and where its API is."""

    node: Node
    address: str

    async def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        client = await Client.connect(self.address)
        try:
            return await client.request("POST", f"/api/v0{path}", body, headers)
        finally:
            await client.aclose()


@dataclass
class World:
    """`worker` has models that draw and edit, at `endpoint`; `asker` is connected to it."""

    asker: Whole
    worker: Whole
    endpoint: FakeEndpoint

    def body(self, *, model: str = "draws", **members: Any) -> dict[str, Any]:
        node_id = self.worker.node.peers.id
        return {"node_id": node_id, "project": "P", "model": model, "prompt": "a bird"} | members


@asynccontextmanager
async def a_node(directory: Path, **sections: Any) -> AsyncIterator[Whole]:
    config = load(write_node(directory, **sections))
    async with trio.open_nursery() as nursery, compose.open_node(config) as node:

        async def run(task_status: trio.TaskStatus[str]) -> None:
            await serve(
                create_app(node),
                config.http,
                bind("127.0.0.1:0"),
                shutdown=trio.Event(),
                grace_s=1,
                task_status=task_status,
            )

        yield Whole(node, await nursery.start(run))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_world(tmp_path: Path, *, http: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[World]:
    with trio.fail_after(WITHIN_S):
        async with (
            open_fake_endpoint() as endpoint,
            a_node(tmp_path / "worker", http={"listen": "127.0.0.1:0"} | (http or {}), **sections) as worker,
            a_node(tmp_path / "asker") as asker,
        ):
            await asker.node.peers.connect(f"{worker.node.peers.info().addresses[0]}/p2p/{worker.node.peers.id}")
            models = [{"model": "draws", "api": endpoint.images_url, "type": 1}]
            models += [{"model": "edits", "api": endpoint.images_url, "type": 2}]
            assert (await worker.post("/ai/project/register", {"project": "P", "models": models})).status == 200
            yield World(asker, worker, endpoint)


@pytest.fixture(scope="module")
def kubo() -> Iterator[str]:
    with running_kubo() as url:
        yield url


async def in_kubo(url: str, cid: str) -> tuple[bytes, bool]:
    """The content, and whether it is pinned."""
    async with httpx.AsyncClient(trust_env=False, timeout=30, base_url=f"{url}/api/v0/") as client:
        return (await client.post(f"cat?arg={cid}")).content, cid in (await client.post("pin/ls")).json()["Keys"]


async def test_what_was_drawn_is_in_ipfs(tmp_path: Path, kubo: str) -> None:
    async with a_world(tmp_path, ipfs={"api": kubo}) as world:
        for asker in (world.asker, world.worker):  # from afar, and by the node's own id
            for world.endpoint.dialect in ("url", "b64_json"):
                first = world.endpoint.drawn
                reply = await asker.post("/image/gen", world.body(n=2, width=8, height=8, seed=3))
                assert (reply.status, reply.json["code"], reply.json["message"]) == (200, 0, "ok")
                assert reply.headers["x-aicn-node"] == world.worker.node.peers.id
                data = reply.json["data"]
                assert data["ipfs_node"] == kubo
                for number, choice in enumerate(data["choices"], first):
                    assert choice["image_name"].endswith(".png")
                    assert await in_kubo(kubo, choice["cid"]) == (draw_png(number), True)
                size = {"size": "8x8", "width": 8, "height": 8}
                expected = {"model": "draws", "prompt": "a bird", "n": 2, "seed": 3, **size}
                assert json.loads(world.endpoint.bodies[-1]) == expected


async def test_images_come_back_inline_without_ipfs(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        reply = await world.asker.post("/image/gen", world.body(response_format="b64_json"))
        [choice] = reply.json["data"]["choices"]
        assert base64.b64decode(choice["b64_json"]) == draw_png(0)
        reply = await world.asker.post("/image/gen", world.body(response_format="url", n=2))
        urls = [choice["url"] for choice in reply.json["data"]["choices"]]
        assert urls == [f"data:image/png;base64,{base64.b64encode(draw_png(number)).decode()}" for number in (1, 2)]


async def test_edits_reach_the_endpoint_as_they_were_sent(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        body = world.body(model="edits", image="https://x.test/a.png", response_format="url")
        reply = await world.asker.post("/image/edit", body)
        assert (reply.status, world.endpoint.content_types[-1]) == (200, "application/json")
        assert json.loads(world.endpoint.bodies[-1])["image"] == "https://x.test/a.png"

        files = (
            Part("image", "a.png", "image/png", draw_png(5) + bytes(range(256)) * 2000),
            Part("mask", "m.png", "image/png", draw_png(6)),
        )
        content_type, form = encode_form(world.body(model="edits", response_format="url", size="64x64", n=1), files)
        for asker in (world.asker, world.worker):
            reply = await asker.post("/image/edit", form, {"content-type": content_type})
            assert (reply.status, reply.json["code"]) == (200, 0)
            fields, parts = decode_form(world.endpoint.bodies[-1], world.endpoint.content_types[-1])
            assert parts == files
            size = {"size": "64x64", "width": "64", "height": "64"}
            assert fields == {"model": "edits", "prompt": "a bird", "n": "1", **size}


async def test_forms_that_do_not_fit(tmp_path: Path) -> None:
    async with a_world(tmp_path, http={"body_bytes": 100_000}) as world:
        large = Part("image", "a.png", "image/png", bytes(150_000))
        content_type, form = encode_form(world.body(model="edits", response_format="url"), (large,))
        headers = {"content-type": content_type}
        assert (await world.worker.post("/image/edit", form, headers)).status == 413  # its own gateway
        reply = await world.asker.post("/image/edit", form, headers)  # the worker's limit, told by the worker
        assert (reply.status, reply.json["code"]) == (413, 1001)
        reply = await world.asker.post("/image/edit", form[:-20], headers)
        assert (reply.status, reply.json["code"]) == (400, 1002)
        assert world.endpoint.bodies == []


@pytest.mark.parametrize(
    ("ipfs", "members", "code", "status", "what"),
    [
        ({}, {}, 1006, 502, "set ipfs.api"),
        ({"api": "http://127.0.0.1:1"}, {}, 1006, 502, "no IPFS node answers"),
        ({}, {"ipfs_node": "http://127.0.0.1:9"}, 1007, 502, "ipfs.allowed_nodes"),
        ({}, {"n": 0}, 1001, 400, "n: "),
        ({}, {"model": "edits"}, 1006, 404, "edits"),
    ],
)
async def test_refusals_come_before_the_model_works(
    tmp_path: Path, ipfs: dict[str, Any], members: dict[str, Any], code: int, status: int, what: str
) -> None:
    async with a_world(tmp_path, ipfs=ipfs) as world:
        for asker in (world.asker, world.worker):
            reply = await asker.post("/image/gen", world.body(**members))
            assert (reply.status, reply.json["code"]) == (status, code)
            assert what in reply.json["message"]
        assert world.endpoint.bodies == []


async def test_an_ipfs_node_that_refuses(tmp_path: Path) -> None:
    refusing = answers(response(403, b"403 - Forbidden", "text/plain"))
    async with open_scripted(refusing) as ipfs, a_world(tmp_path, ipfs={"api": ipfs.url("")}) as world:
        reply = await world.asker.post("/image/gen", world.body())
        assert (reply.status, reply.json["code"]) == (502, 1007)
        assert "status 403" in reply.json["message"]


async def test_a_client_that_leaves_stops_the_model(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world:
        world.endpoint.first_s = 60
        for asker in (world.asker, world.worker):
            client = await Client.connect(asker.address)
            body = json.dumps(world.body(response_format="url")).encode()
            await client.ask("POST", "/api/v0/image/gen", body)
            while not world.endpoint.open:
                await trio.sleep(0.01)
            before = world.endpoint.cancelled
            await client.aclose()
            await world.endpoint.wait_cancelled(before + 1, within=10)


async def test_a_client_that_leaves_ends_the_upload(tmp_path: Path) -> None:
    uploading = trio.Event()

    async def slow(connection: Connection) -> None:
        while (request := await connection.receive_request()) is not None:
            if "/add" not in request.target:
                await connection.send(response(200, b'{"Version": "0.30.0"}'))
                continue
            uploading.set()
            await connection.wait_closed()
            return

    async with open_scripted(slow) as ipfs, a_world(tmp_path, ipfs={"api": ipfs.url("")}) as world:
        client = await Client.connect(world.asker.address)
        await client.ask("POST", "/api/v0/image/gen", json.dumps(world.body()).encode())
        await uploading.wait()
        assert not ipfs.hung_up.is_set()
        await client.aclose()
        with trio.fail_after(10):
            await ipfs.hung_up.wait()
