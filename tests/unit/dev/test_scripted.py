"""The scripted endpoint over HTTP: one answer per conversation, continued exactly or refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from aicn.dev.scripted import ScriptedEndpoint, conversation_of, script, serve

QUESTION = {"role": "user", "content": "Why?"}
TOKENS = script(conversation_of([QUESTION]), 20)


@pytest.fixture
async def endpoint() -> ScriptedEndpoint:
    return ScriptedEndpoint(token_s=0.0)


@pytest.fixture
async def client(endpoint: ScriptedEndpoint, nursery: trio.Nursery) -> AsyncIterator[httpx.AsyncClient]:
    address = await nursery.start(serve, endpoint)
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20, trust_env=False) as client:
        yield client


async def say(client: httpx.AsyncClient, *begun: str, most: int = 20, **more: Any) -> httpx.Response:
    messages = [QUESTION, *({"role": "assistant", "content": text} for text in begun)]
    body = {"model": "scripted", "messages": messages, "max_tokens": most, **more}
    return await client.post("/one/v1/chat/completions", json=body)


def content(answer: httpx.Response) -> str:
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "length"
    return str(choice["message"]["content"])


async def test_the_same_is_answered_by_all(client: httpx.AsyncClient) -> None:
    assert content(await say(client)) == content(await say(client, temperature=2, seed=5)) == "".join(TOKENS)
    other = await client.post("/two/v1/chat/completions", json={"messages": [QUESTION], "max_tokens": 20})
    assert content(other) == "".join(TOKENS)


@pytest.mark.parametrize("cut", [1, 7, 19])
async def test_an_answer_that_was_begun_is_gone_on_with(client: httpx.AsyncClient, cut: int) -> None:
    answer = await say(client, "".join(TOKENS[:cut]), most=20 - cut)
    assert content(answer) == "".join(TOKENS[cut:])
    whole = (await say(client)).json()["usage"]
    assert answer.json()["usage"] == {
        "prompt_tokens": whole["prompt_tokens"] + cut,
        "completion_tokens": 20 - cut,
        "total_tokens": whole["total_tokens"],
    }


@pytest.mark.parametrize("begun", ["".join(TOKENS[:5]).rstrip(), "".join(TOKENS[:5])[:-2], "something else"])
async def test_what_is_not_its_beginning_is_refused(client: httpx.AsyncClient, begun: str) -> None:
    answer = await say(client, begun)
    assert answer.status_code == 400
    assert "cut between two tokens" in answer.json()["error"]["message"]


async def test_a_streamed_answer_has_an_event_for_each_token(client: httpx.AsyncClient) -> None:
    answer = await say(client, stream=True, stream_options={"include_usage": True})
    *events, last = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert last == "[DONE]"
    *said, end, usage = map(json.loads, events)
    assert [event["choices"][0]["delta"]["content"] for event in said] == TOKENS
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == 20


async def test_one_can_be_slow_while_others_are_not(client: httpx.AsyncClient) -> None:
    endpoint_s = 0.005
    slow = ScriptedEndpoint(endpoint_s)
    slow.slow("one", 20.0)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve, slow)
        times = {}
        for name in ("one", "two"):
            begun = trio.current_time()
            url = f"http://{address}/{name}/v1/chat/completions"
            assert (await client.post(url, json={"messages": [QUESTION], "max_tokens": 10})).status_code == 200
            times[name] = trio.current_time() - begun
        nursery.cancel_scope.cancel()
    assert times["one"] >= 10 * 20 * endpoint_s > times["two"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/nothing", {}, 404),
        ("/one/v1/chat/completions", {"messages": []}, 400),
        ("/one/v1/chat/completions", {"messages": [QUESTION], "max_tokens": 0}, 400),
    ],
)
async def test_what_it_does_not_understand(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
) -> None:
    assert (await client.post(path, json=body)).status_code == status
