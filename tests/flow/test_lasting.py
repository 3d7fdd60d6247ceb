"""Streams through whole nodes while those that answer die and freeze: no client notices but by a comment."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.wire.sse import iter_data
from tests.fakes.endpoint import Connection, Script, http_chunk, open_scripted, stream_head
from tests.fakes.hosts import until
from tests.fakes.http import Reply
from tests.fakes.whole import Whole, open_whole

WORDS = [f"word{number} " for number in range(40)]
PROMPT_TOKENS = 5
KILL_EACH_S = 0.5
STREAMS = 100


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "M", "messages": [{"role": "user", "content": "Tell"}], "stream": True, **more}


def storyteller(delay_s: float) -> Script:
    """A deterministic model: it goes on with what the assistant has said."""

    async def script(connection: Connection) -> None:
        while (request := await connection.receive_request()) is not None:
            last = json.loads(request.body)["messages"][-1]
            said = len(last["content"].split()) if last["role"] == "assistant" else 0
            rest = WORDS[said:]
            await connection.send(stream_head() + http_chunk(_event({"role": "assistant", "content": ""})))
            for word in rest:
                await trio.sleep(delay_s)
                await connection.send(http_chunk(_event({"content": word})))
            answered = len(rest)
            usage = {"prompt_tokens": PROMPT_TOKENS + said, "completion_tokens": answered, "total_tokens": 0}
            end = _event({}, "stop", usage=usage) + b"data: [DONE]\n\n"
            await connection.send(http_chunk(end) + http_chunk(b""))

    return script


def _event(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
    value = {"id": f"id{random.random()}", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(value)}\n\n".encode()


def check_whole(reply: Reply) -> None:
    assert reply.status == 200, reply.body
    events = [json.loads(one) for one in iter_data(reply.body) if one != b"[DONE]"]
    choices = [one["choices"][0] for one in events if one.get("choices")]
    assert "".join(one["delta"].get("content") or "" for one in choices) == "".join(WORDS), reply.body[-600:]
    assert [one["finish_reason"] for one in choices if one["finish_reason"]] == ["stop"]
    assert reply.body.endswith(b"data: [DONE]\n\n")
    usage = events[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (PROMPT_TOKENS, len(WORDS))


class Mortal:
    """A worker that can be killed without a word and comes back."""

    def __init__(self, folder: Path, asker: Whole, url: str) -> None:
        self._folder, self._asker, self._url = folder, asker, url
        self._die = trio.Event()
        self.id = ""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, die, and live again."""
        while True:
            self._die = trio.Event()
            async with open_whole(self._folder) as node:
                self.id = node.id
                await node.register({"model": "M", "api": self._url})
                await self._asker.connect(node)
                await until(lambda node=node: node.id in offering(self._asker))
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._die.wait()

    def kill(self) -> None:
        self._die.set()


def offering(asker: Whole) -> set[str]:
    return {one.node for one in asker.node.directory.catalog.providers("P", "M", most=10)}


@asynccontextmanager
async def mortals(folder: Path, count: int, *, delay_s: float) -> AsyncIterator[tuple[Whole, list[Mortal]]]:
    with trio.fail_after(90):
        async with (
            open_scripted(storyteller(delay_s)) as model,
            open_whole(folder / "asker") as asker,
            trio.open_nursery() as nursery,
        ):
            workers = [Mortal(folder / str(number), asker, model.url()) for number in range(count)]
            for worker in workers:
                await nursery.start(worker.run)
            yield asker, workers
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/v0/chat/completion/proxy"])
async def test_a_worker_that_is_killed_inside_an_answer(tmp_path: Path, path: str) -> None:
    async with mortals(tmp_path, 2, delay_s=0.05) as (asker, workers), trio.open_nursery() as nursery:
        replies: list[Reply] = []

        async def ask(**more: Any) -> None:
            replies.append(await asker.request("POST", path, chat(project="P", **more)))

        for temperature in (0, 1):
            nursery.start_soon(lambda temperature=temperature: ask(temperature=temperature))
        await trio.sleep(0.8)
        workers[0].kill()
        await until(lambda: len(replies) == 2, seconds=30)
        for reply in replies:
            check_whole(reply)


async def test_no_client_loses_an_answer_while_workers_die(tmp_path: Path) -> None:
    """100 streams over 5 workers, one killed every half a second."""
    chance = random.Random(7)
    async with mortals(tmp_path, 5, delay_s=0.02) as (asker, workers), trio.open_nursery() as nursery:
        replies: list[Reply] = []
        limit = trio.CapacityLimiter(20)

        async def ask(number: int) -> None:
            async with limit:
                replies.append(await asker.request("POST", "/v1/chat/completions", chat(temperature=number % 2)))

        async def ask_all() -> None:
            async with trio.open_nursery() as asking:
                for number in range(STREAMS):
                    asking.start_soon(ask, number)
            nursery.cancel_scope.cancel()

        nursery.start_soon(ask_all)
        while True:
            await trio.sleep(KILL_EACH_S)
            chance.choice(workers).kill()
    assert len(replies) == STREAMS
    for reply in replies:
        check_whole(reply)
    assert sum(b": aicn resumed" in reply.body for reply in replies) > 3


async def test_a_worker_that_freezes_inside_an_answer(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with (
            open_scripted(storyteller(0.05)) as model,
            open_whole(tmp_path / "asker") as asker,
            open_whole(tmp_path / "frozen") as frozen,
            open_whole(tmp_path / "well") as well,
            a_line(frozen) as (address, cut),
        ):
            await asker.node.peers.connect(f"{address}/p2p/{frozen.id}")
            await frozen.register({"model": "M", "api": model.url()})
            await until(lambda: frozen.id in offering(asker))
            async with trio.open_nursery() as nursery:
                replies: list[Reply] = []

                async def ask() -> None:
                    replies.append(await asker.request("POST", "/v1/chat/completions", chat()))

                nursery.start_soon(ask)
                await until(lambda: model.requests)
                await asker.connect(well)
                await well.register({"model": "M", "api": model.url()})
                await until(lambda: well.id in offering(asker))
                began = trio.current_time()
                cut()
                await until(lambda: replies, seconds=30)
                took = trio.current_time() - began
            check_whole(replies[0])
            assert f": aicn resumed node={well.id}".encode() in replies[0].body
            assert took < 15  # two seconds to notice, and the rest of the answer


@asynccontextmanager
async def a_line(node: Whole) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """An address through which `node` is reached, and what makes it silent: nothing arrives, nothing is closed."""
    port = int(node.node.peers.info().addresses[0].rpartition("/")[2])
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    frozen = False

    async def forward(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(65536):
            if frozen:
                await trio.sleep_forever()
            await sink.send_all(data)

    async def serve(inside: trio.SocketStream) -> None:
        outside = await trio.open_tcp_stream("127.0.0.1", port)
        async with inside, outside, trio.open_nursery() as both:
            both.start_soon(forward, inside, outside)
            both.start_soon(forward, outside, inside)

    def freeze() -> None:
        nonlocal frozen
        frozen = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"/ip4/127.0.0.1/tcp/{listeners[0].socket.getsockname()[1]}", freeze
        nursery.cancel_scope.cancel()
