"""Real daemons as processes on loopback, for end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import trio

AICN = [sys.executable, "-m", "aicn"]
READY_S = 30.0  # a loaded machine imports libp2p in 5 s


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of a node."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AICN_")} | dict(extra or {})


def write_node(
    directory: Path, /, *, bootstrap: tuple[str, ...] = (), psk: str = "", **sections: Mapping[str, Any]
) -> Path:
    """A key and a config.toml in `directory`; free ports unless `sections` say otherwise."""
    directory.mkdir(parents=True, exist_ok=True)
    key = directory / "peer.key"
    if not key.exists():
        from aicn.p2p.identity import generate_key

        key.touch(0o600)
        key.write_text(generate_key())
    merged: dict[str, dict[str, Any]] = {
        "p2p": {"listen": ["/ip4/127.0.0.1/tcp/0"], "bootstrap": list(bootstrap), "psk": psk},
        "http": {"listen": "127.0.0.1:0"},
    }
    for section, values in sections.items():
        merged.setdefault(section, {}).update(values)
    path = directory / "config.toml"
    lines = [
        line
        for section, values in merged.items()
        for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class Daemon:
    """A running daemon. `output` is what it has printed, `log` what it said on standard error."""

    process: trio.Process
    client: httpx.AsyncClient
    output: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    peer_id: str = ""
    address: str = ""  # with /p2p/<id>
    url: str = ""  # http://127.0.0.1:port

    async def post(self, path: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        return await self.client.post(f"/api/v0{path}", json=body, **kwargs)

    async def data(self, path: str, body: Any = None) -> Any:
        """The `data` of a successful call."""
        answer = (await self.post(path, body)).json()
        assert answer["code"] == 0, answer
        return answer.get("data")

    async def register(self, url: str, *, project: str = "P", model: str = "M") -> None:
        await self.data(
            "/ai/project/register", {"project": project, "models": [{"model": model, "api": url, "type": 0}]}
        )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with trio.fail_after(20):
            return await self.process.wait()


def chat(node: str, *, stream: bool = False, model: str = "M", project: str = "P", **extra: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say hello."}]
    return {"node_id": node, "project": project, "model": model, "messages": messages, "stream": stream, **extra}


async def events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of each server-sent event."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


@asynccontextmanager
async def running(
    config: Path, *, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> AsyncIterator[Daemon]:
    """`aicn daemon` until the block ends; killed if it then still runs. `prefix`: a command that becomes the one behind it."""
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            [*prefix, *AICN, "daemon", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            daemon = Daemon(process, client)
            ready = trio.Event()
            nursery.start_soon(_follow, process.stderr, daemon.log)
            nursery.start_soon(_follow, process.stdout, daemon.output, ready)
            try:
                with trio.move_on_after(READY_S):
                    await ready.wait()
                assert daemon.output, f"the daemon is not ready: {daemon.log[-20:]}"
                _read(daemon)
                client.base_url = httpx.URL(daemon.url)
                yield daemon
            finally:
                if process.poll() is None:
                    process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await process.wait()
        nursery.cancel_scope.cancel()


def _read(daemon: Daemon) -> None:
    words = [line.split() for line in daemon.output]
    daemon.peer_id = next(line[-1] for line in words if line[:2] == ["peer", "id"])
    daemon.address = next((line[1] for line in words if line[0] == "p2p"), "")
    daemon.url = next(line[1] for line in words if line[0] == "http").removesuffix("/api/v0")


async def _follow(stream: Any, lines: list[str], ready: trio.Event | None = None) -> None:
    buffer = b""
    async for data in stream:
        buffer += data
        *complete, buffer = buffer.split(b"\n")
        lines.extend(line.decode(errors="replace") for line in complete)
        if ready is not None and any(line.split()[:1] == ["http"] for line in lines):
            ready.set()
    if ready is not None:
        ready.set()
