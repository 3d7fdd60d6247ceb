"""`python -m bench.network`: networks of 3, 10 and 25 nodes as processes on loopback.

What a plain chat costs the whole network, whether requests are lost, and how long the directory takes to follow. One network that grows.
It reports and never fails on a figure. Exit code 1: something broke; 2: the nodes lost requests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import client
from bench.nodes import BenchError, Daemon, daemon, fake_endpoint
from bench.report import machine, show, text, write_block
from bench.rows import NONE_LOST, Metric

LAST = Path(__file__).with_name("network.json")
SIZES = (3, 10, 25)
DIRECTORY_SIZE = 10
MODEL = "8-tokens"
QUERY = "?tokens=8&delay=0"
SETTLE_S = 8.0  # after nodes have joined: tables filled, everybody connected
IDLE_S = 10.0  # over which the idle rate is taken: ticks of 10 ms on each node must not count
CLIENTS, REQUESTS = 16, 3000
REPEATS = 3  # of the load, each with an idle rate of its own; the figures are medians
ROUNDS = 7  # of joining, offering, withdrawing, being killed
POLL_S = 0.005
LONGEST_S = 30.0  # a directory that needs longer is broken

HEAD = ("network", "figure", "value", "target", "last", "ok")
PER_SIZE = (
    Metric("CPU ms per plain chat, all nodes", "cpu_ms"),
    Metric("requests/s, 16 clients", "rps"),
    Metric("requests lost, 64 clients", "lost_64", at_most=0),
    Metric("requests lost, 256 clients", "lost_256", at_most=0),
    Metric("CPU % per idle node", "idle"),
)
GROWTH = Metric("CPU per plain chat, times that of 3 nodes", "growth", at_most=1.25)
DIRECTORY = (
    ("a node joins: knows all projects", "joined", 2.0),
    ("a new offer: visible on all", "offered", 2.0),
    ("a withdrawn offer: gone from all", "withdrawn", 1.0),
    ("kill -9 of a worker: gone from all", "killed", 5.0),
)


@dataclass(frozen=True)
class Figure:
    """One measured value."""

    network: str
    metric: Metric
    value: float

    def cells(self, last: dict[str, float]) -> tuple[str, ...]:
        m = self.metric
        return (self.network, m.name, show(self.value), m.target, show(last.get(self.id)), m.verdict(self.value))

    @property
    def id(self) -> str:
        return f"{self.network}: {self.metric.name}"


@dataclass
class Network:
    """Nodes that all join through the first; the second takes requests, the third answers them."""

    load: Path
    endpoint: str
    stack: contextlib.ExitStack
    nodes: list[Daemon] = field(default_factory=list)

    def grow(self, size: int) -> None:
        while len(self.nodes) < size:
            number = len(self.nodes)
            bootstrap = (self.nodes[0].address(),) if self.nodes else ()
            node = self.stack.enter_context(daemon(f"node {number}", client.WORK / f"node{number}", *bootstrap))
            self.offer(node, f"project-{number}")
            self.nodes.append(node)
        deadline = time.monotonic() + LONGEST_S
        while any(len(connected_peers(node)) < size - 1 for node in self.nodes[:3]):
            if time.monotonic() > deadline:
                raise BenchError(f"{size} nodes do not find each other")
            time.sleep(0.1)

    def offer(self, node: Daemon, project: str) -> None:
        model = {"model": MODEL, "api": self.endpoint + QUERY, "type": 0}
        node.call("/ai/project/register", {"project": project, "models": [model]})

    def chats(self, clients: int, requests: int) -> dict[str, Any]:
        """Plain chats at the second node with the third's model."""
        body = client.chat(self.nodes[2].call("/id")["peer_id"], "project-2", MODEL)
        url = f"{self.nodes[1].api}/chat/completion"
        return client.run(self.load, url, body, clients=clients, requests=requests)

    def cpu_s(self) -> float:
        """Of all nodes so far."""
        return sum(node.cpu_s() for node in self.nodes)


def connected_peers(node: Daemon) -> set[str]:
    return {connection["peer"] for connection in node.call("/swarm/peers", {})}


def main() -> int:
    arguments = _arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        figures = measure(arguments.quick)
    except (BenchError, subprocess.SubprocessError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    last = json.loads(LAST.read_text())["figures"] if LAST.exists() else {}
    rows = [HEAD, *(figure.cells(last) for figure in figures)]
    print("\n" + text(rows))
    if arguments.record:
        LAST.write_text(
            json.dumps({"machine": machine(), "figures": {f.id: f.value for f in figures}}, indent=1) + "\n"
        )
        column = HEAD.index("last")
        write_block("network", [row[:column] + row[column + 1 :] for row in rows])
    return 2 if any(figure.metric.name.startswith(NONE_LOST.name) and figure.value for figure in figures) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="each thing once or twice; for a look, not for the record")
    parser.add_argument("--record", action="store_true", help="make these the last recorded figures")
    arguments = parser.parse_args()
    if arguments.record and arguments.quick:
        parser.error("--record wants a full run")
    return arguments


def measure(quick: bool) -> list[Figure]:
    """All figures."""
    figures: list[Figure] = []
    load = client.build()
    with contextlib.ExitStack() as stack:
        network = Network(load, stack.enter_context(fake_endpoint(load)), stack)
        smallest = 0.0
        for size in SIZES:
            network.grow(size)
            values = _load(network, quick)
            name = f"{size} nodes"
            figures += [Figure(name, metric, values[metric.key]) for metric in PER_SIZE]
            smallest = smallest or values["cpu_ms"]
            if size > SIZES[0]:
                figures.append(Figure(name, GROWTH, values["cpu_ms"] / smallest))
            print(f"{name}: " + ", ".join(f"{key} {show(value)}" for key, value in values.items()), flush=True)
            if size == DIRECTORY_SIZE:
                figures += _directory(network, 2 if quick else ROUNDS)
    return figures


def _load(network: Network, quick: bool) -> dict[str, float]:
    """What chats cost the network as it is now; CPU is that of all nodes less what they use anyway."""
    network.chats(CLIENTS, 300)  # connections and caches are there before the first figure is taken
    time.sleep(SETTLE_S)
    runs = []
    for _ in range(1 if quick else REPEATS):
        before, began = network.cpu_s(), time.monotonic()
        time.sleep(IDLE_S)
        idle = (network.cpu_s() - before) / (time.monotonic() - began)
        before, began = network.cpu_s(), time.monotonic()
        result = network.chats(CLIENTS, REQUESTS)
        used = network.cpu_s() - before - idle * (time.monotonic() - began)
        runs.append(
            {
                "cpu_ms": used * 1e3 / max(1, result["ok"]),
                "rps": result["rps"],
                "idle": 100 * idle / len(network.nodes),
                "lost": result["lost"],
            }
        )
    values = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    values["lost_64"] = network.chats(64, REQUESTS)["lost"]
    values["lost_256"] = network.chats(256, REQUESTS)["lost"]
    return values


def _directory(network: Network, rounds: int) -> list[Figure]:
    """How long the directory takes, with a node more that comes and goes; median and longest of some rounds, seconds."""
    found = [_guest(network, f"guest-{n}") for n in range(rounds)]
    name = f"{len(network.nodes)} nodes"
    figures = []
    for what, key, most in DIRECTORY:
        times = [times[key] for times in found]
        print(f"{name}: {key} {', '.join(map(show, times))} s", flush=True)
        figures.append(Figure(name, Metric(f"{what}, s p50", key, at_most=most), statistics.median(times)))
        figures.append(Figure(name, Metric(f"{what}, s longest", key, at_most=most), max(times)))
    return figures


def _guest(network: Network, project: str) -> dict[str, float]:
    """A node joins, offers, withdraws, offers again and is killed: the seconds that each took to be known."""
    everything = {f"project-{number}" for number in range(len(network.nodes))}
    times: dict[str, float] = {}
    with daemon("guest", client.WORK / "guest", network.nodes[0].address()) as guest:
        times["joined"] = _seen_by([guest], time.monotonic(), everything)
        began = time.monotonic()
        network.offer(guest, project)
        times["offered"] = _seen_by(network.nodes, began, {project})
        began = time.monotonic()
        guest.call("/ai/project/unregister", {"project": project})
        times["withdrawn"] = _seen_by(network.nodes, began, set(), without=project)
        network.offer(guest, project)
        _seen_by(network.nodes, began, {project})
        began = time.monotonic()
        os.kill(guest.pid, signal.SIGKILL)
        times["killed"] = _seen_by(network.nodes, began, set(), without=project)
    return times


def _seen_by(nodes: Sequence[Daemon], began: float, projects: set[str], *, without: str = "") -> float:
    """Seconds from `began` until each of `nodes` knows `projects`, and not `without`."""
    for node in nodes:  # one after the other: who was right stays right
        while not projects <= (known := set(node.call("/ai/projects/list", {})["data"])) or without in known:
            if time.monotonic() - began > LONGEST_S:
                raise BenchError(f"{node.name} does not follow within {LONGEST_S:g} s")
            time.sleep(POLL_S)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
