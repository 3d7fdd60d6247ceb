"""`make bench`: the hot path measured, the endpoint called directly and through input node → worker, side by side.

It reports and never fails on a figure. Exit code 1: something broke (no daemon, a direct request lost); 2: the nodes lost requests.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import client
from bench.client import WORK
from bench.nodes import BenchError, Daemon, daemon, fake_endpoint
from bench.report import Figure, last_recorded, record, table, text
from bench.rows import IDLE, ROWS, START, Row

PROJECT = "bench"
REPEATS = 3  # of each load through the nodes; the figures are medians: machines are noisy
SAMPLE_S = 0.1  # between two looks at the memory of the nodes


def main() -> int:
    arguments = _arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1000 streams need 2000 sockets on the gateway's side
    print(f"open files: {hard} (the shell's {soft} raised); limits.concurrency: 1024 (default 32)\n")
    try:
        figures, lost = measure(arguments)
    except (BenchError, subprocess.SubprocessError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("\n" + text(table(figures, last_recorded())))
    if arguments.record:
        record(figures)
    return 2 if lost else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW", help="of: start, " + ", ".join(row.id for row in ROWS))
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the requests, once; for a look, not for the record"
    )
    parser.add_argument(
        "--record", action="store_true", help="make these the last recorded figures (all rows, not --quick)"
    )
    arguments = parser.parse_args()
    known = {"start", *(row.id for row in ROWS)}
    if unknown := set(arguments.only or ()) - known:
        parser.error(f"unknown row {', '.join(sorted(unknown))}")
    if arguments.record and (arguments.only or arguments.quick):
        parser.error("--record wants a full run")
    return arguments


def measure(arguments: argparse.Namespace) -> tuple[list[Figure], int]:
    """All figures asked for, and the number of requests that the nodes lost."""
    load = client.build()
    wanted = [row for row in ROWS if not arguments.only or row.id in arguments.only]
    figures: list[Figure] = []
    lost = 0
    if not arguments.only or "start" in arguments.only:
        figures.append(Figure.of("a node", START, {}, {"ready_s": _start_s()}))
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(fake_endpoint(load))
        worker = stack.enter_context(daemon("worker", WORK / "worker"))
        gateway = stack.enter_context(daemon("gateway", WORK / "gateway"))
        bed = Bed(load, endpoint, gateway, worker)
        bed.prove()
        bed.connect()
        if not arguments.only or "start" in arguments.only:
            idle = {"rss_gateway": gateway.rss_mb(), "rss_worker": worker.rss_mb()}
            figures += [Figure.of("a node", metric, {}, idle) for metric in IDLE]
        bed.warm_up()
        for row in wanted:
            requests = max(row.clients, row.requests // 5) if arguments.quick else row.requests
            direct = bed.direct(row, requests)
            through = _median([bed.through(row, requests) for _ in range(1 if arguments.quick else REPEATS)])
            if row.stream:
                through["first_added"] = through["first50"] - direct["first50"]
                through["first_added99"] = through["first99"] - direct["first99"]
            figures += [Figure.of(row.name, metric, direct, through) for metric in row.metrics]
            lost += through["lost"]
            print(f"{row.name}\n  direct  {_short(direct)}\n  through {_short(through)}", flush=True)
    return figures, lost


@dataclass(frozen=True)
class Bed:
    """Everything that a row needs: client → gateway → worker → endpoint, and client → endpoint."""

    load: Path
    endpoint: str
    gateway: Daemon
    worker: Daemon

    def connect(self) -> None:
        """The worker has a model per kind of answer; the gateway knows the worker."""
        models = {row.model: {"model": row.model, "api": self.endpoint + row.query, "type": 0} for row in ROWS}
        self.worker.call("/ai/project/register", {"project": PROJECT, "models": list(models.values())})
        self.gateway.call("/swarm/connect", {"node_addr": self.worker.address()})

    def prove(self) -> None:
        """Show that what stands around the nodes is much faster than they can be."""
        plain, bulk = (next(row for row in ROWS if row.id == id_) for id_ in ("plain-16", "bulk-16"))
        requests, events = self.direct(plain, 20_000)["rps"], self.direct(bulk, 480)["events_s"]
        print(f"client and endpoint without a node: {requests:,.0f} requests/s, {events:,.0f} events/s\n", flush=True)

    def warm_up(self) -> None:
        """Imports, connections and caches are there before the first figure is taken."""
        self.through(ROWS[0], 200)
        self.through(ROWS[1], 200)

    def direct(self, row: Row, requests: int) -> dict[str, Any]:
        result = self._run(self.endpoint + row.query, row, requests)
        if result["lost"]:
            raise BenchError(f"{row.name}: the endpoint itself lost requests: {result}")
        return result

    def through(self, row: Row, requests: int) -> dict[str, Any]:
        """The load's report with what it cost the nodes: CPU per request, most memory."""
        before = self.gateway.cpu_s(), self.worker.cpu_s()
        with _Memory(self.gateway, self.worker) as memory:
            path = "/v1/chat/completions" if row.v1 else "/api/v0/chat/completion"
            result = self._run(self.gateway.api.removesuffix("/api/v0") + path, row, requests)
        answered = max(1, result["ok"])
        result["cpu_gateway_ms"] = (self.gateway.cpu_s() - before[0]) * 1e3 / answered
        result["cpu_worker_ms"] = (self.worker.cpu_s() - before[1]) * 1e3 / answered
        result["cpu_ms"] = result["cpu_gateway_ms"] + result["cpu_worker_ms"]
        result["rss_gateway"], result["rss_worker"] = memory.most
        return result

    def _run(self, url: str, row: Row, requests: int) -> dict[str, Any]:
        body = client.chat(self.worker.call("/id")["peer_id"], PROJECT, row.model, stream=row.stream)
        if row.v1:
            del body["node_id"], body["project"]
        return client.run(self.load, url, body, clients=row.clients, requests=requests, spread_s=row.spread_s)


class _Memory:
    """Most resident memory of some daemons while the block runs, MB each."""

    def __init__(self, *daemons: Daemon) -> None:
        self.most = [0.0] * len(daemons)
        self._daemons = daemons
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.most = [max(most, d.rss_mb()) for most, d in zip(self.most, self._daemons, strict=True)]
            if self._over.wait(SAMPLE_S):
                return


def _start_s() -> float:
    times = []
    for _ in range(3):
        with daemon("node", WORK / "start") as node:
            times.append(node.ready_s)
    return statistics.median(times)


def _median(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure; what was lost in any run counts."""
    middle = {key: statistics.median(r[key] for r in results) for key in results[0] if key != "fails"}
    fails: dict[str, int] = {}
    for result in results:
        for reason, count in result.get("fails", {}).items():
            fails[reason] = fails.get(reason, 0) + count
    return middle | {"lost": sum(r["lost"] for r in results)} | ({"fails": fails} if fails else {})


def _short(result: dict[str, Any]) -> str:
    return ", ".join(f"{k} {round(v, 3) if isinstance(v, float) else v}" for k, v in result.items())


if __name__ == "__main__":
    sys.exit(main())
