"""What clients of a gateway see while their requests wait on another node: whole nodes in this process, a real endpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trio

from tests.fakes.endpoint import open_fake_endpoint
from tests.fakes.hosts import until
from tests.fakes.http import Client, Reply
from tests.fakes.whole import Whole, open_whole

NEWS = re.compile(rb"(: queued position=1 eta=[0-9.]+s\n\n)")
CHAT = {"project": "P", "model": "M", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v0/chat/completion"])
async def test_a_streamed_request_that_waits_says_so_in_comments(tmp_path: Path, path: str) -> None:
    with trio.fail_after(60):
        async with (
            open_fake_endpoint(tokens=100_000, delay_s=0.05) as endpoint,
            open_whole(tmp_path / "asker") as asker,
            open_whole(tmp_path / "worker", limits={"concurrency": 1}) as worker,
        ):
            await asker.connect(worker)
            await worker.register({"model": "M", "api": endpoint.url, "type": 0})
            await until(lambda: "M" in asker.node.directory.catalog.models("P"))
            ahead = await Client.connect(asker.address)
            await ahead.ask("POST", path, json.dumps(_chat(worker, path) | {"stream": True}).encode())
            await until(lambda: endpoint.open)
            replies: dict[bool, Reply] = {}

            async def ask(stream: bool) -> None:
                replies[stream] = await asker.request("POST", path, _chat(worker, path) | {"stream": stream})

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, True)
                await until(lambda: worker.node.worker.load("P", "M") == (1, 2))
                nursery.start_soon(ask, False)
                await until(lambda: worker.node.worker.load("P", "M") == (1, 3))
                endpoint.tokens = 4
                await ahead.aclose()
            assert NEWS.match(replies[True].body)
            events = NEWS.sub(b"", replies[True].body)
            assert events.startswith(b"data: {")
            assert events.endswith(b"data: [DONE]\n\n")
            assert "choices" in replies[False].body.decode()
            json.loads(replies[False].body)


def _chat(worker: Whole, path: str) -> dict[str, object]:
    """`/v1` names no node."""
    return {"model": CHAT["model"], "messages": CHAT["messages"]} if "v1" in path else CHAT | {"node_id": worker.id}
