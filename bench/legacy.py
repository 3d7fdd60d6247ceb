"""`python -m bench.legacy`: chats between aicn and the nodes of the existing network, in both directions.

The other side is the Go node of tests/interop/go, with the libraries and the protocol of the original. The same loads run between two
of them, which is what an aicn node is compared with, and between two aicn nodes, over their own protocol.
It reports and never fails on a figure. Exit code 1: something broke; 2: chats with an aicn node were lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import client, gonode
from bench.gonode import GoNode, go_node
from bench.nodes import BenchError, Daemon, Vitals, daemon, fake_endpoint
from bench.report import machine, show, text, write_block
from bench.rows import Metric

LAST = Path(__file__).with_name("legacy.json")
GO = ("-legacy", "-pubsub", "floodsub", "-dht", "server")  # as the original's public nodes and workers
PAIRS = (("go", "go"), ("go", "aicn"), ("aicn", "go"), ("aicn", "aicn"))  # who asks, who has the model
BETWEEN_GO = "go → go"
MIXED = ("go → aicn", "aicn → go")  # to which the targets apply
REPEATS = 3  # the figures are medians; what was lost in any run counts
MEET_S = 30.0  # for two nodes to know of each other
LOST_S = 20  # after which a load's chats without an answer are lost

HEAD = ("load", "figure", *(f"{a} → {b}" for a, b in PAIRS), "original", "target", "last", "ok")
LAST_COLUMN = HEAD.index("last")


@dataclass(frozen=True)
class Load:
    """What is asked, and how often. `steady`: 50 tokens, one each 20 ms; otherwise 8 at once.

    The model is alone in a project of its name: registering a project replaces its models.
    """

    name: str
    clients: int
    requests: int
    metrics: tuple[Metric, ...]
    stream: bool = False
    steady: bool = False

    @property
    def model(self) -> str:
        return "steady" if self.steady else "at-once"

    def quick(self) -> int:
        """Requests for a look."""
        return max(self.clients, self.requests // 5)


def _busy(*, at_least: float | None = None) -> tuple[Metric, ...]:
    """Figures of a load that is as fast as the nodes are."""
    return (
        Metric("requests/s", "rps", at_least=at_least),
        Metric("ms p50", "p50"),
        Metric("ms p99", "p99"),
        Metric("lost", "lost", at_most=0),
        Metric("CPU ms per request, who asks", "cpu_asks"),
        Metric("CPU ms per request, who has the model", "cpu_has"),
    )


STEADY = (
    Metric("gap ms p99", "gap99", at_most=40),
    Metric("first token, ms p50", "first50"),
    Metric("lost", "lost", at_most=0),
)
LOADS = (
    Load("plain chat, 1 client", 1, 300, _busy()),
    Load("plain chat, 16 clients", 16, 1500, _busy(at_least=500)),
    Load("plain chat, 64 clients", 64, 1500, _busy()),
    Load("stream of 8 tokens at once, 1 client", 1, 300, _busy(), stream=True),
    Load("stream of 8 tokens at once, 16 clients", 16, 1500, _busy(at_least=300), stream=True),
    Load("stream of 8 tokens at once, 64 clients", 64, 1500, _busy(), stream=True),
    Load("a token each 20 ms, 16 streams", 16, 48, STEADY, stream=True, steady=True),
    Load("a token each 20 ms, 64 streams", 64, 192, STEADY, stream=True, steady=True),
)
# Nodes that a chat over the topic does not concern, but who hand it on: each is connected to both sides and to the other.
ONLOOKERS = Load("plain chat, 16 clients, go → go, past two others", 16, 1500, ())
LOOKING_ON = (
    Metric("CPU ms per chat, a Go node that looks on", "go"),
    Metric("CPU ms per chat, an aicn node that looks on", "aicn", at_most=1),
)
# The original program itself, with its HTTP API before the node that asks; measured once, on another machine's noisy day.
ORIGINAL = {
    ("plain chat, 1 client", "p50"): 3.2,
    ("plain chat, 16 clients", "rps"): 960,
    ("plain chat, 16 clients", "p50"): 16,
    ("plain chat, 16 clients", "cpu_asks"): 1.4,
    ("plain chat, 16 clients", "cpu_has"): 1.4,
    ("stream of 8 tokens at once, 1 client", "p50"): 0.9,
    ("stream of 8 tokens at once, 1 client", "rps"): 1100,
    ("stream of 8 tokens at once, 16 clients", "p50"): 4.0,
    ("stream of 8 tokens at once, 16 clients", "rps"): 3800,
    ("stream of 8 tokens at once, 16 clients", "cpu_asks"): 0.3,
    ("stream of 8 tokens at once, 16 clients", "cpu_has"): 0.3,
    ("stream of 8 tokens at once, 64 clients", "p50"): 12,
    ("stream of 8 tokens at once, 64 clients", "rps"): 5000,
    ("a token each 20 ms, 64 streams", "gap99"): 558,
    ("a token each 20 ms, 64 streams", "first50"): 65,
    (ONLOOKERS.name, "go"): 0.8,  # of networks of 10 and 25: (22 ms - 9.4 ms) / 15
}

Ask = Callable[[str, Load, int], dict[str, Any]]  # the worker's peer id, the load, how many requests


@dataclass(frozen=True)
class Side:
    """A node of a pair."""

    vitals: Vitals
    peer: str
    address: str
    offer: Callable[[str, str], None]  # a model and its project, at an endpoint
    ask: Ask


Figures = dict[str, dict[str, dict[str, float]]]  # by pair, load and metric


def main() -> int:
    arguments = _arguments()
    try:
        if not gonode.build():
            return 0
        figures = measure(quick=arguments.quick)
    except (BenchError, subprocess.SubprocessError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    last = json.loads(LAST.read_text())["figures"] if LAST.exists() else {}
    rows = [
        HEAD,
        *(_cells(load, metric, figures, last) for load in LOADS for metric in load.metrics),
        *(_looking_on(metric, figures, last) for metric in LOOKING_ON),
    ]
    print("\n" + text(rows))
    if arguments.record:
        LAST.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1, ensure_ascii=False) + "\n")
        write_block("legacy", [row[:LAST_COLUMN] + row[LAST_COLUMN + 1 :] for row in rows])
    return 2 if any(figures[pair][load.name]["lost"] for pair in MIXED for load in LOADS) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.legacy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of it, once; for a look, not for the record")
    parser.add_argument("--record", action="store_true", help="make these the last recorded figures")
    arguments = parser.parse_args()
    if arguments.record and arguments.quick:
        parser.error("--record wants a full run")
    return arguments


def measure(*, quick: bool) -> Figures:
    """All figures. The pairs take turns: machines are noisy."""
    program = client.build()
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    with fake_endpoint(program) as at_once, fake_endpoint(program, "tokens=50&delay=20") as steady:
        looked = _look_on(at_once, quick=quick)
        for _ in range(1 if quick else REPEATS):
            for asks, has in PAIRS:
                with _pair(program, asks, has) as (requester, worker):
                    worker.offer("at-once", at_once)
                    worker.offer("steady", steady)
                    _meet(requester, worker)
                    results = {load.name: _run(load, requester, worker, quick=quick) for load in LOADS}
                pair = f"{asks} → {has}"
                found.setdefault(pair, []).append(results)
                print(f"{pair}: " + "; ".join(f"{name}: {_short(one)}" for name, one in results.items()), flush=True)
    figures: Figures = {
        pair: {load.name: _middle([run[load.name] for run in runs]) for load in LOADS} for pair, runs in found.items()
    }
    figures[BETWEEN_GO][ONLOOKERS.name] = looked
    return figures


def _look_on(endpoint: str, *, quick: bool) -> dict[str, float]:
    """What chats between two Go nodes cost those who hand them on."""
    with contextlib.ExitStack() as stack:
        worker, looking, asking = (stack.enter_context(go_node(*GO)) for _ in range(3))
        node = stack.enter_context(daemon("aicn that looks on", client.WORK / "aicn0", worker.address, looking.address))
        for one, others in ((looking, (worker,)), (asking, (worker, looking))):
            for other in others:
                one.call("connect", address=other.address)
        asking.call("connect", address=node.address())
        requester, owner = _go_side(asking), _go_side(worker)
        owner.offer(ONLOOKERS.model, endpoint)
        _meet(requester, owner, LOADS[:1])
        deadline = time.monotonic() + MEET_S
        while any(len(one.call("topic-peers")) < 3 for one in (worker, looking, asking)):
            if time.monotonic() > deadline:
                raise BenchError("four nodes do not find each other")
            time.sleep(0.1)
        before = {"go": looking.cpu_s(), "aicn": node.cpu_s()}
        result = requester.ask(worker.peer, ONLOOKERS, ONLOOKERS.quick() if quick else ONLOOKERS.requests)
        used = {"go": looking.cpu_s() - before["go"], "aicn": node.cpu_s() - before["aicn"]}
    values = {kind: 1000 * seconds / result["ok"] for kind, seconds in used.items()}
    print(f"{ONLOOKERS.name}: {_short(values)}", flush=True)
    return values


@contextlib.contextmanager
def _pair(program: Path, asks: str, has: str) -> Iterator[tuple[Side, Side]]:
    """Two nodes that know of nobody else; the first has joined through the second."""
    with contextlib.ExitStack() as stack:
        sides: list[Side] = []
        for kind in (has, asks):
            others = [side.address for side in sides]
            if kind == "go":
                go = stack.enter_context(go_node(*GO))
                for other in others:
                    go.call("connect", address=other)
                sides.append(_go_side(go))
            else:
                name = f"aicn{len(sides)}"
                sides.append(_aicn_side(program, stack.enter_context(daemon(name, client.WORK / name, *others))))
        yield sides[1], sides[0]


def _go_side(go: GoNode) -> Side:
    def offer(model: str, url: str) -> None:
        go.call("register", project=model, model=model, url=url)

    def ask(peer: str, load: Load, requests: int) -> dict[str, Any]:
        fields = {"project": load.model, "model": load.model, "text": client.PROMPT, "stream": load.stream}
        done = go.call("load", timeout_s=LOST_S, peer=peer, clients=load.clients, count=requests, **fields)
        times = sorted(done["times_ms"])
        if not times:
            raise BenchError(f"the Go node: {load.name}: {done['failed']}")
        return {
            "ok": len(times),
            "lost": sum(done["failed"].values()),
            "fails": done["failed"],
            # A client without an answer waits to the end, so the seconds of the whole say nothing; the others were as fast as this.
            "rps": 1000 * max(1, load.clients - sum(done["failed"].values())) / statistics.fmean(times),
            "p50": _percentile(times, 0.5),
            "p99": _percentile(times, 0.99),
            "first50": _percentile(sorted(done["firsts_ms"]), 0.5),
            "gap99": _percentile(sorted(done["gaps_ms"]), 0.99),
        }

    return Side(go, go.peer, go.address, offer, ask)


def _aicn_side(program: Path, node: Daemon) -> Side:
    def offer(model: str, url: str) -> None:
        node.call("/ai/project/register", {"project": model, "models": [{"model": model, "api": url, "type": 0}]})

    def ask(peer: str, load: Load, requests: int) -> dict[str, Any]:
        body = client.chat(peer, load.model, load.model, stream=load.stream)
        url = f"{node.api}/chat/completion"
        apart_s = load.clients / 1000  # as the clients of the Go node arrive
        return client.run(program, url, body, clients=load.clients, requests=requests, spread_s=apart_s)

    address = node.address()
    return Side(node, address.rpartition("/")[2], address, offer, ask)


def _meet(requester: Side, worker: Side, loads: Sequence[Load] = (LOADS[0], LOADS[3])) -> None:
    """Until all are answered, which warms up as well."""
    for load in loads:
        deadline = time.monotonic() + MEET_S
        while True:
            try:
                if not (result := requester.ask(worker.peer, load, 20))["lost"]:
                    break
            except BenchError as error:
                result = {"fails": str(error)}
            if time.monotonic() > deadline:
                raise BenchError(f"no chats within {MEET_S:g} s: {result['fails']}")
            time.sleep(0.2)


def _run(load: Load, requester: Side, worker: Side, *, quick: bool) -> dict[str, float]:
    """One load; CPU is the processes' own."""
    before = requester.vitals.cpu_s(), worker.vitals.cpu_s()
    result = requester.ask(worker.peer, load, load.quick() if quick else load.requests)
    used = requester.vitals.cpu_s() - before[0], worker.vitals.cpu_s() - before[1]
    if result["lost"]:
        print(f"lost: {load.name}: {result['fails']}", flush=True)
    answered = max(1, result["ok"])
    result |= {"cpu_asks": 1000 * used[0] / answered, "cpu_has": 1000 * used[1] / answered}
    return {metric.key: float(result[metric.key]) for metric in load.metrics}


def _middle(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]} | {
        "lost": sum(run["lost"] for run in runs)
    }


def _cells(load: Load, metric: Metric, figures: Figures, last: Figures) -> tuple[str, ...]:
    """A row of the table. `last`: of the mixed pairs."""
    values = {pair: of[load.name][metric.key] for pair, of in figures.items()}
    before = [last.get(pair, {}).get(load.name, {}).get(metric.key) for pair in MIXED]
    worse = min if metric.at_least is not None else max
    return (
        load.name,
        metric.name,
        *map(show, values.values()),
        show(ORIGINAL.get((load.name, metric.key))),
        metric.target,
        " / ".join(map(show, before)),
        metric.verdict(worse(values[pair] for pair in MIXED)),
    )


def _looking_on(metric: Metric, figures: Figures, last: Figures) -> tuple[str, ...]:
    value = figures[BETWEEN_GO][ONLOOKERS.name][metric.key]
    before = last.get(BETWEEN_GO, {}).get(ONLOOKERS.name, {}).get(metric.key)
    original = ORIGINAL.get((ONLOOKERS.name, metric.key))
    empty = ("-",) * (len(PAIRS) - 1)
    return (
        *(ONLOOKERS.name, metric.name, show(value), *empty),
        *(show(original), metric.target, show(before), metric.verdict(value)),
    )


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[int(part * (len(ordered) - 1))] if ordered else 0.0


def _short(result: dict[str, float]) -> str:
    return ", ".join(f"{key} {show(value)}" for key, value in result.items())


if __name__ == "__main__":
    sys.exit(main())
