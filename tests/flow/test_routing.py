"""Routing through whole nodes: the dry run, what is learned from answers and failures, and the new node's first request."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import trio

from tests.fakes.endpoint import answers, http_chunk, open_scripted, response, stream_head
from tests.fakes.hosts import until
from tests.fakes.whole import Whole, open_whole

PLAIN = response(200, b'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}')
STREAM = (
    stream_head()
    + http_chunk(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
    + http_chunk(b"data: [DONE]\n\n")
    + http_chunk(b"")
)


async def offer(node: Whole, asker: Whole, url: str) -> None:
    """The model at `url` is offered by `node`, and `asker` knows."""
    assert (await node.register({"model": "M", "api": url})).status == 200
    catalog = asker.node.directory.catalog
    await until(lambda: node.id in {one.node for one in catalog.providers("P", "M", most=10)})


async def explained(asker: Whole) -> list[tuple[str, str]]:
    """Nodes and reasons, the first first."""
    reply = await asker.request("GET", "/api/v0/debug/route?model=P/M")
    assert reply.status == 200, reply.body
    return [(one["node_id"], one["reason"]) for one in reply.json["data"]["nodes"]]


async def chat(asker: Whole, number: int) -> str:
    """Who has answered; each is a conversation of its own."""
    messages = [{"role": "user", "content": f"Question {number}"}]
    body = {"project": "P", "model": "M", "messages": messages, "stream": True}
    reply = await asker.post("/chat/completion/proxy", body)
    assert reply.status == 200, reply.body
    return reply.headers["x-aicn-node"]


async def test_the_next_request_goes_where_the_dry_run_says(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with (
            open_scripted(answers(STREAM)) as server,
            open_whole(tmp_path / "asker") as asker,
            open_whole(tmp_path / "first") as first,
            open_whole(tmp_path / "second") as second,
        ):
            nothing = await asker.request("GET", "/api/v0/debug/route?model=M&project=P")
            assert (nothing.status, nothing.json["code"]) == (503, 1016)
            for worker in (first, second):
                await asker.connect(worker)
                await offer(worker, asker, server.url())
            served: Counter[str] = Counter()
            for number in range(30):
                nodes = await explained(asker)
                assert await explained(asker) == nodes
                assert {node for node, _ in nodes} == {first.id, second.id}
                answered = await chat(asker, number)
                assert answered == nodes[0][0]
                served[answered] += 1
            assert min(served.values()) >= 1
            assert len(served) == 2


async def test_a_node_that_fails_is_set_aside_and_a_new_one_is_tried(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with (
            open_scripted(answers(STREAM)) as server,
            open_scripted(answers(response(500, b"{}"))) as broken,
            open_whole(tmp_path / "asker") as asker,
            open_whole(tmp_path / "bad") as bad,
            open_whole(tmp_path / "good") as good,
        ):
            await asker.connect(bad)
            await offer(bad, asker, broken.url())
            assert await explained(asker) == [(bad.id, "the only one")]
            await asker.connect(good)
            await offer(good, asker, server.url())
            while not any(reason.startswith("failed 0 s ago") for _, reason in await explained(asker)):
                assert await chat(asker, 1) == good.id  # also when the other is asked first
            (first, _), (last, why) = await explained(asker)
            assert (first, last) == (good.id, bad.id)
            assert why.startswith("failed 0 s ago, set aside for 0.")
