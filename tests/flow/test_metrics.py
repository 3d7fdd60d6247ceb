"""Counts, the log and `aicn why` through whole nodes: right after plain, streamed, cancelled and failed requests, and after a failover."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.endpoint import Scripted, answers, http_chunk, open_scripted, response, stream_head
from tests.fakes.hosts import until
from tests.fakes.http import Client, Reply
from tests.fakes.whole import Whole, open_whole

CHAT = {"model": "M", "messages": [{"role": "user", "content": "a secret question"}]}
STREAM = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
USAGE = b'"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}'
PLAIN = response(
    200,
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],' + USAGE + b"}",
)
BEGUN = stream_head() + http_chunk(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n')
STREAMED = (
    BEGUN
    + http_chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
    + http_chunk(b'data: {"choices":[],' + USAGE + b"}\n\n")
    + http_chunk(b"data: [DONE]\n\n")
    + http_chunk(b"")
)


@asynccontextmanager
async def asking(directory: Path) -> AsyncIterator[tuple[Whole, Whole]]:
    """A node that asks, connected to one that works."""
    with trio.fail_after(60):
        async with open_whole(directory / "asker") as asker, open_whole(directory / "worker") as worker:
            await asker.connect(worker)
            yield asker, worker


async def offer(worker: Whole, asker: Whole, server: Scripted) -> None:
    assert (await worker.register({"model": "M", "api": server.url("/v1/chat/completions")})).status == 200
    catalog = asker.node.directory.catalog
    await until(lambda: worker.id in {one.node for one in catalog.providers("P", "M", most=10)})


async def chat(asker: Whole, body: object = CHAT) -> Reply:
    return await asker.request("POST", "/v1/chat/completions", body)


async def counted(node: Whole) -> dict[tuple[str, str, str], float]:
    """(sample, surface, code or type) → value, of the model."""
    reply = await node.request("GET", "/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (
            sample.name,
            sample.labels["surface"],
            sample.labels.get("code", sample.labels.get("gen_ai_token_type", "")),
        ): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
        if sample.labels.get("gen_ai_request_model") == "M" and "surface" in sample.labels and "le" not in sample.labels
    }


async def explained(node: Whole, request_id: str) -> dict[str, Any]:
    reply = await node.request("GET", f"/api/v0/debug/trace?id={request_id}")
    assert reply.status == 200, reply.body
    data: dict[str, Any] = reply.json["data"]
    return data


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_answer(tmp_path: Path, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with asking(tmp_path) as (asker, worker), open_scripted(answers(STREAMED if stream else PLAIN)) as server:
        await offer(worker, asker, server)
        reply = await chat(asker, STREAM if stream else CHAT)
        assert reply.status == 200
        request_id = reply.headers["x-request-id"]
        for node, surface in ((asker, "v1"), (worker, "worker")):
            await until(lambda node=node: node.node.traces.knows(request_id))
            found = await counted(node)
            assert found["aicn_model_requests_total", surface, "ok"] == 1
            assert found["gen_ai_server_request_duration_seconds_count", surface, ""] == 1
            assert found["gen_ai_client_token_usage_sum", surface, "input"] == 7
            assert found["gen_ai_client_token_usage_sum", surface, "output"] == 3
            for name in ("gen_ai_server_time_to_first_token_seconds", "gen_ai_server_time_per_output_token_seconds"):
                assert found.get((f"{name}_count", surface, ""), 0) == int(stream)
        lines = {one.name: one.fields for one in caplog.records if getattr(one, "fields", {}).get("id") == request_id}
        gateway, at_work = lines["aicn.gateway.exchange"], lines["aicn.services.worker"]
        told = of_model(gateway)
        assert told == of_model(at_work) == ("P", "M", 7, 3, "stop")
    assert "secret" not in caplog.text
    assert "secret" not in str(lines)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_the_node_that_the_client_has_named(tmp_path: Path, stream: bool) -> None:
    async with asking(tmp_path) as (asker, worker), open_scripted(answers(STREAMED if stream else PLAIN)) as server:
        await offer(worker, asker, server)
        named = (STREAM if stream else CHAT) | {"project": "P", "node_id": worker.id}
        reply = await asker.post("/chat/completion", named)
        assert reply.status == 200
        assert (await counted(asker))["aicn_model_requests_total", "v0", "ok"] == 1
        way = (await explained(asker, reply.headers["x-request-id"]))["way"]
        assert [(one["node_id"], one["reason"]) for one in way["candidates"]] == [(worker.id, "named by the client")]
        assert [(one["node_id"], one["error"]) for one in way["attempts"]] == [(worker.id, "")]


async def test_a_client_that_leaves(tmp_path: Path) -> None:
    async with asking(tmp_path) as (asker, worker), open_scripted(answers(BEGUN, then_wait=True)) as server:
        await offer(worker, asker, server)
        client = await Client.connect(asker.address)
        await client.ask("POST", "/v1/chat/completions", json.dumps(STREAM).encode())
        await client.stream.receive_some()  # it has begun
        await client.aclose()
        for node, surface in ((asker, "v1"), (worker, "worker")):
            while ("aicn_model_requests_total", surface, "cancelled") not in (found := await counted(node)):
                await trio.sleep(0.01)
            assert found["aicn_model_requests_total", surface, "cancelled"] == 1
            assert ("gen_ai_client_token_usage_count", surface, "input") not in found


async def test_a_failover(tmp_path: Path) -> None:
    """The first that is asked fails: the client gets a whole answer, and `aicn why` tells of both."""
    async with (
        asking(tmp_path) as (asker, worker),
        open_whole(tmp_path / "bad") as bad,
        open_scripted(answers(response(500, b"{}"))) as broken,
        open_scripted(answers(PLAIN)) as server,
    ):
        await asker.connect(bad)
        await offer(bad, asker, broken)
        failed = await chat(asker)
        assert failed.status >= 500
        way = (await explained(asker, failed.headers["x-request-id"]))["way"]
        assert {one["node_id"] for one in way["attempts"]} == {bad.id}
        assert {one["error"] for one in way["attempts"]} == {"model_failed"}
        await offer(worker, asker, server)
        both = None
        while both is None:
            reply = await chat(asker)
            assert reply.status == 200
            way = (await explained(asker, reply.headers["x-request-id"]))["way"]
            both = way if len(way["attempts"]) > 1 else None
            await trio.sleep(0.05)  # the one that failed is set aside for a while
        assert [(one["node_id"], one["error"]) for one in both["attempts"]] == [
            (bad.id, "model_failed"),
            (worker.id, ""),
        ]
        assert {one["node_id"] for one in both["candidates"]} == {bad.id, worker.id}


async def test_a_request_that_nobody_remembers(tmp_path: Path) -> None:
    async with asking(tmp_path) as (asker, _):
        reply = await asker.request("GET", "/api/v0/debug/trace?id=nobody")
        assert (reply.status, reply.json["code"]) == (400, 1001)
        assert "remembered are 0 of clients" in reply.json["message"]
        assert (await asker.request("GET", "/api/v0/debug/trace")).status == 400


async def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    async with open_whole(tmp_path, http={"metrics": False}) as node:
        assert (await node.request("GET", "/metrics")).status == 404


def of_model(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields[name] for name in ("project", "model", "tokens_in", "tokens_out", "finish"))
