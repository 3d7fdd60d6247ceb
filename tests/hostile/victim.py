"""The node that is abused: a whole one, in a process of its own, with a socket on which it tells what it holds.

Run as `python -m tests.hostile.victim CONFIG`; the first line it prints is its `Started` as JSON.
"""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import trio

from aicn import compose, logs
from aicn.config.load import load
from aicn.config.schema import Config
from aicn.domain.registration import Endpoint
from aicn.node import Node
from tests.e2e.nodes import environment, write_node
from tests.fakes.endpoint import open_fake_endpoint

PROJECT, MODEL, LONG_MODEL = "P", "M", "Long"  # registered with the victim; the answers of Long have megabytes
_SAMPLE_S = 0.02  # between two looks at the memory
_STOP_S = 20.0


@dataclass(frozen=True)
class Started:
    """Where the victim is."""

    peer_id: str
    port: int  # of libp2p, on 127.0.0.1
    url: str  # of the HTTP API
    probe: int  # port that answers every connection with `Counts`
    rss: int  # bytes of memory before anything has happened


@dataclass(frozen=True)
class Counts:
    """What the victim holds."""

    tasks: int
    fds: int
    connections: int
    streams: int
    handshakes: int
    rss: int  # bytes
    peak: int  # bytes: the highest rss since the last look

    def over(self, other: Counts) -> dict[str, int]:
        """By how much this is more than `other`, name by name."""
        mine, theirs = asdict(self), asdict(other)
        return {name: mine[name] - theirs[name] for name in mine}


@dataclass(frozen=True)
class Victim:
    """A running victim, as tests see it."""

    started: Started
    directory: Path
    psk: bytes | None

    async def counts(self) -> Counts:
        """What it holds now. Counting starts a new `peak`."""
        async with await trio.open_tcp_stream("127.0.0.1", self.started.probe) as stream:
            data = b""
            async for part in stream:
                data += part
        return Counts(**json.loads(data))

    @property
    def log(self) -> str:
        """All that it said on standard error."""
        return (self.directory / "log").read_text(errors="replace")


@contextmanager
def running(directory: Path, *, psk: str = "") -> Iterator[Victim]:
    """A victim until the block ends."""
    config = write_node(
        directory,
        psk=psk,
        p2p={"dht_mode": "server", "relay_service": True, "port_mapping": False},
        logging={"level": "info"},
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.victim", str(config)],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, (directory / "log").read_text()
        yield Victim(Started(**json.loads(line)), directory, bytes.fromhex(psk) or None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_STOP_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


async def _run(config: Config) -> None:
    nodes: list[tuple[Node, str]] = []
    ready = trio.Event()

    def on_ready(node: Node, address: str) -> None:
        nodes.append((node, address))
        ready.set()

    async with trio.open_nursery() as nursery, open_fake_endpoint() as endpoint:
        nursery.start_soon(_tell, nursery, nodes, ready, endpoint.url)
        await compose.serve(config, ready=on_ready)
        nursery.cancel_scope.cancel()


async def _tell(nursery: trio.Nursery, nodes: list[tuple[Node, str]], ready: trio.Event, endpoint: str) -> None:
    await ready.wait()
    node, address = nodes[0]
    models = [
        Endpoint(PROJECT, MODEL, endpoint),
        Endpoint(PROJECT, LONG_MODEL, f"{endpoint}?tokens=20000"),
    ]
    await node.registration.register(PROJECT, models)
    peaks = [0]
    listeners = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), partial(_answer, node, peaks), 0)
    port = int(node.peers.info().addresses[0].rsplit("/", 1)[1])
    probe = listeners[0].socket.getsockname()[1]
    process = psutil.Process()
    started = Started(node.peers.id, port, f"http://{address}/api/v0", probe, process.memory_info().rss)
    print(json.dumps(asdict(started)), flush=True)
    while True:
        peaks[0] = max(peaks[0], process.memory_info().rss)
        await trio.sleep(_SAMPLE_S)


async def _answer(node: Node, peaks: list[int], stream: trio.SocketStream) -> None:
    gc.collect()
    process = psutil.Process()
    swarm: Any = node.peers._swarm  # type: ignore[attr-defined]  # a look inside: no interface tells of tasks
    connections = swarm.open_connections()
    rss = process.memory_info().rss
    counts = Counts(
        tasks=trio.lowlevel.current_statistics().tasks_living,
        fds=process.num_fds(),
        connections=len(connections),
        streams=sum(len(one.muxer.streams) for one in connections),
        handshakes=len(swarm._handshakes),
        rss=rss,
        peak=max(peaks[0], rss),
    )
    peaks[0] = rss
    async with stream:
        await stream.send_all(json.dumps(asdict(counts)).encode())


if __name__ == "__main__":
    settings = load(Path(sys.argv[1]))
    logs.set_up(settings.logging)
    gc.set_threshold(compose._COLLECT_AFTER)
    compose._raise_file_limit()
    trio.run(_run, settings)
