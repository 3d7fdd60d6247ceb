"""Usage between two whole nodes: the asker counts by key and answering node, the worker by asking node, both over a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import trio

from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.hosts import until
from tests.fakes.http import Client
from tests.fakes.whole import Whole, open_whole

BODY: dict[str, Any] = {"model": "M", "messages": [{"role": "user", "content": "Hello"}]}
COUNTS = ("requests", "failed", "prompt_tokens", "completion_tokens")


async def usage(node: Whole) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await node.request("GET", "/api/v0/usage")).json["data"]
    return rows


async def leave(asker: Whole, endpoint: FakeEndpoint, key: dict[str, str]) -> None:
    """A client that hears the beginning of a long answer."""
    client = await Client.connect(asker.address)
    await client.ask("POST", "/v1/chat/completions", json.dumps(BODY | {"model": "long", "stream": True}).encode(), key)
    await client.head()
    assert await client.piece()
    await client.aclose()
    await endpoint.wait_cancelled()


async def test_both_sides_count_whole_answers_and_left_ones(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_fake_endpoint(tokens=4) as endpoint, open_whole(tmp_path / "worker") as worker:
            async with open_whole(tmp_path / "asker") as asker:
                await asker.connect(worker)
                long = {"model": "long", "api": f"{endpoint.url}?tokens=1000&delay=20"}
                await worker.register({"model": "M", "api": endpoint.url}, long)
                await until(lambda: "long" in asker.node.directory.models("P"))
                made = (await asker.post("/keys/create", {"name": "k", "tokens_per_day": 10**6})).json["data"]
                key = {"authorization": f"Bearer {made['key']}"}
                for stream in (False, True):
                    reply = await asker.request("POST", "/v1/chat/completions", BODY | {"stream": stream}, key)
                    assert reply.status == 200, reply.body
                await leave(asker, endpoint, key)
                with trio.fail_after(10):
                    while sum(row["requests"] for row in await usage(asker) + await usage(worker)) < 6:
                        await trio.sleep(0.02)
                asked = {row["model"]: row for row in await usage(asker)}
                assert {(row["key"], row["node_id"]) for row in asked.values()} == {(made["id"], worker.id)}
                assert (asked["M"]["requests"], asked["M"]["failed"]) == (2, 0)
                assert asked["M"]["prompt_tokens"] > 0
                assert (asked["long"]["failed"], asked["long"]["prompt_tokens"]) == (1, 0)
                assert asked["long"]["estimated_tokens"] > 1000, "charged what was reserved"
                served = await usage(worker)
                assert {(row["key"], row["node_id"]) for row in served} == {("peer", asker.id)}
                whole = next(row for row in served if row["model"] == "M")
                assert [whole[name] for name in COUNTS] == [asked["M"][name] for name in COUNTS]
                assert [row["failed"] for row in served if row["model"] == ""] == [1]
        async with open_whole(tmp_path / "asker") as again:
            assert {row["model"]: row for row in await usage(again)} == asked
