"""The main path with real processes: client → input node → worker → endpoint, and this node's own models."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import openai
import pytest
import trio

from tests.e2e.nodes import Daemon, chat, events, running, write_node
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint

pytestmark = pytest.mark.e2e
PSK = "ab" * 32


class Net(NamedTuple):
    public: Daemon
    worker: Daemon
    input: Daemon
    endpoint: FakeEndpoint


@asynccontextmanager
async def a_net(tmp_path: Path, *, limits: dict[str, object] | None = None) -> AsyncIterator[Net]:
    """Two nodes of a private network that find each other by peer id through a third; the worker has a model."""
    async with (
        open_fake_endpoint(tokens=8) as endpoint,
        running(write_node(tmp_path / "public", psk=PSK, p2p={"dht_mode": "server"})) as public,
    ):
        config = {"bootstrap": (public.address,), "psk": PSK}
        async with (
            running(write_node(tmp_path / "worker", **config, limits=limits or {})) as worker,
            running(write_node(tmp_path / "input", **config, p2p={"dht_mode": "client"})) as asker,
        ):
            await worker.register(endpoint.url)
            await until_connected(public, {worker.peer_id, asker.peer_id})
            yield Net(public, worker, asker, endpoint)


async def until_connected(node: Daemon, peers: set[str]) -> None:
    with trio.fail_after(15):
        while not peers <= {entry["peer"] for entry in (await node.post("/swarm/peers")).json()}:
            await trio.sleep(0.05)


async def test_the_whole_way(tmp_path: Path) -> None:
    async with a_net(tmp_path) as (_, worker, asker, endpoint):
        for node in (asker, worker):  # another's model and this node's own: the same answers
            await plain_chat(node, worker)
            await streamed_chat(node, worker)
            await hang_up(node, worker, endpoint)
        await projects(asker, worker)
        await the_openai_client(asker, worker)
        await errors(asker, worker, endpoint)


async def plain_chat(node: Daemon, worker: Daemon) -> None:
    response = await node.post("/chat/completion", chat(worker.peer_id))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["code"], answer["message"]) == (0, "ok")
    assert answer["data"]["choices"][0]["message"]["content"]
    assert answer["data"]["usage"]["total_tokens"]
    assert response.headers["x-aicn-node"] == worker.peer_id


async def streamed_chat(node: Daemon, worker: Daemon) -> None:
    async with node.client.stream(
        "POST", "/api/v0/chat/completion", json=chat(worker.peer_id, stream=True)
    ) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        got = [event async for event in events(response)]
    assert got[-1] == "[DONE]"
    text = "".join(choice["delta"].get("content", "") for event in got[:-1] for choice in json.loads(event)["choices"])
    assert text


async def hang_up(node: Daemon, worker: Daemon, endpoint: FakeEndpoint) -> None:
    """A client that leaves stops the endpoint's work within a second: before the first byte, between tokens, plain."""
    for stream, stage in ((True, "?first=20000"), (False, "?first=20000"), (True, "?tokens=1000&delay=20")):
        await worker.register(endpoint.url + stage, model="slow")
        cancelled = endpoint.cancelled
        body = chat(worker.peer_id, model="slow", stream=stream)
        with trio.move_on_after(0.4):
            async with node.client.stream("POST", "/api/v0/chat/completion", json=body) as response:
                await response.aread()
        left = time.monotonic()
        with trio.fail_after(5):
            while endpoint.cancelled == cancelled:
                await trio.sleep(0.01)
        assert time.monotonic() - left < 1, stage
    await worker.register(endpoint.url)


async def projects(asker: Daemon, worker: Daemon) -> None:
    assert await asker.data("/ai/project/peer", {"node_id": worker.peer_id}) == [{"project": "P", "models": ["M"]}]
    assert await asker.data("/ai/project/peer", {"node_id": asker.peer_id}) == []


async def the_openai_client(asker: Daemon, worker: Daemon) -> None:
    """Streamed answers are what the official client reads."""

    def ask() -> str | None:
        with openai.OpenAI(base_url=f"{asker.url}/api/v0", api_key="none", max_retries=0) as client:
            chunks = client.post(
                "/chat/completion",
                body=chat(worker.peer_id, stream=True),
                cast_to=openai.types.chat.ChatCompletionChunk,
                stream=True,
                stream_cls=openai.Stream[openai.types.chat.ChatCompletionChunk],
            )
            return [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1]

    assert await trio.to_thread.run_sync(ask) == "stop"


async def errors(asker: Daemon, worker: Daemon, endpoint: FakeEndpoint) -> None:
    await worker.register("http://127.0.0.1:9/v1/chat/completions", model="dead")
    unknown = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"
    for node in (asker, worker):
        for body, status, code in (
            (chat(worker.peer_id, model="dead"), 502, 1006),
            (chat(worker.peer_id, model="dead", stream=True), 502, 1017),
            (chat(worker.peer_id, model="none"), 404, 1006),
            (chat(worker.peer_id, model="none", stream=True), 404, 1017),
            (chat(unknown), 404, 1005),
            (chat("nonsense"), 400, 1001),
        ):
            response = await node.post("/chat/completion", body)
            assert (response.status_code, response.json()["code"]) == (status, code), response.text
            assert response.json()["message"]
    await worker.register(endpoint.url)


async def test_busy_says_when_to_come_back(tmp_path: Path) -> None:
    async with a_net(tmp_path, limits={"concurrency": 1, "queue": 1}) as (_, worker, asker, endpoint):
        await worker.register(endpoint.url + "?first=1500")
        statuses: list[tuple[int, str | None]] = []

        async def ask() -> None:
            response = await asker.post("/chat/completion", chat(worker.peer_id))
            statuses.append((response.status_code, response.headers.get("retry-after")))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert sorted(status for status, _ in statuses) == [200, 200, 503]
        assert [after for status, after in statuses if status == 503 and after and int(after) >= 1]


async def test_a_killed_worker_breaks_its_streams_and_comes_back(tmp_path: Path) -> None:
    async with a_net(tmp_path) as (_, worker, asker, endpoint):
        await worker.register(endpoint.url + "?tokens=1000&delay=20")
        body = chat(worker.peer_id, stream=True)
        async with asker.client.stream("POST", "/api/v0/chat/completion", json=body) as response:
            got = []
            async for event in events(response):
                got.append(event)
                if len(got) == 3:
                    worker.process.kill()
        assert got[-1] != "[DONE]"
        assert json.loads(got[-1])["code"] == 1017
        response = await asker.post("/chat/completion", body)
        assert response.status_code in (404, 504)
        # what was registered is there after kill -9, and the node is found again
        async with running(tmp_path / "worker" / "config.toml") as again:
            assert again.peer_id == worker.peer_id
            assert await again.data("/ai/project/peer", {"node_id": again.peer_id}) == [
                {"project": "P", "models": ["M"]}
            ]
            with trio.fail_after(30):
                while (await asker.post("/chat/completion", chat(again.peer_id))).status_code != 200:
                    await trio.sleep(0.2)


async def test_a_killed_input_node_stops_the_endpoints_work(tmp_path: Path) -> None:
    async with a_net(tmp_path) as (_, worker, asker, endpoint):
        await worker.register(endpoint.url + "?tokens=1000&delay=20")
        with pytest.raises(httpx.HTTPError):
            async with asker.client.stream(
                "POST", "/api/v0/chat/completion", json=chat(worker.peer_id, stream=True)
            ) as response:
                async for _ in events(response):
                    asker.process.kill()
        with trio.fail_after(3):
            await endpoint.wait_cancelled()


async def test_a_killed_public_node_stops_nobody_who_is_connected(tmp_path: Path) -> None:
    async with a_net(tmp_path) as (public, worker, asker, endpoint):
        assert (await asker.post("/chat/completion", chat(worker.peer_id))).status_code == 200
        await worker.register(endpoint.url + "?tokens=40&delay=20")
        body = chat(worker.peer_id, stream=True)
        async with asker.client.stream("POST", "/api/v0/chat/completion", json=body) as response:
            got = []
            async for event in events(response):
                got.append(event)
                if len(got) == 3:
                    public.process.kill()
        assert got[-1] == "[DONE]"
        assert (await asker.post("/chat/completion", chat(worker.peer_id))).status_code == 200
