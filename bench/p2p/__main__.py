"""`python -m bench.p2p`: the p2p layer beside stock py-libp2p and, as a server, go-libp2p, on the same work in one run.

It reports and never fails on a figure. Exit code 1: something broke; 2: the soak lost or corrupted streams.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import gonode
from bench.nodes import BenchError, ended
from bench.p2p.rows import HEAD, LAST_COLUMN, ROWS, SOAK, SOAK_METRICS, STACKS
from bench.p2p.stack import COUNT, SINK
from bench.report import machine, show, text, write_block

LAST = Path(__file__).with_name("last.json")
REPEATS = 3  # the implementations take turns; the figures are medians: machines are noisy
CLIENT_S = 600  # all loads on a slow machine


def main() -> int:
    arguments = _arguments()
    try:
        if arguments.soak:
            return _soak(arguments.soak)
        figures = measure(arguments.stacks, 1 if arguments.quick else REPEATS)
    except (BenchError, subprocess.SubprocessError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    last = json.loads(LAST.read_text())["figures"] if LAST.exists() else {}
    rows = [
        HEAD,
        *(
            row.cells({s: figures.get(s, {}).get(row.metric.key) for s in STACKS}, last.get(row.metric.key))
            for row in ROWS
        ),
    ]
    print("\n" + text(rows))
    if arguments.record:
        LAST.write_text(json.dumps({"machine": machine(), "figures": figures["aicn"]}, indent=1) + "\n")
        write_block("p2p", [row[:LAST_COLUMN] + row[LAST_COLUMN + 1 :] for row in rows])
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.p2p", description=__doc__)
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=STACKS, help="which servers; all by default")
    parser.add_argument("--quick", action="store_true", help="once, not three times; for a look, not for the record")
    parser.add_argument("--record", action="store_true", help="make these the last recorded figures")
    parser.add_argument(
        "--soak", type=int, nargs="?", const=100_000, metavar="STREAMS", help="instead: many streams (100,000) of ours"
    )
    arguments = parser.parse_args()
    if arguments.record and (arguments.quick or len(arguments.stacks) < len(STACKS)):
        parser.error("--record wants the whole run")
    return arguments


def measure(stacks: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Figures by implementation; one that is not there has none."""
    there = [stack for stack in stacks if stack != "go" or gonode.build()]
    results: dict[str, list[dict[str, float]]] = {stack: [] for stack in there}
    for _ in range(repeats):
        for stack, found in results.items():
            found.append(_round(stack))
            print(f"{stack}: " + ", ".join(f"{key} {show(value)}" for key, value in found[-1].items()), flush=True)
    return {
        stack: {key: statistics.median(run[key] for run in found) for key in found[0].keys() & found[-1].keys()}
        for stack, found in results.items()
    }


def _soak(streams: int) -> int:
    with _running(_peer("serve", "aicn")) as server:
        result = _client("soak", "aicn", server, str(streams))
    head: tuple[str, ...] = ("load", "figure", "value", "target", "ok")
    rows = [head] + [
        (SOAK, metric.name, show(result[metric.key]), metric.target, metric.verdict(result[metric.key]))
        for metric in SOAK_METRICS
    ]
    print(text(rows))
    if result["first_failure"]:
        print(f"the first failure: {result['first_failure']}")
    return 2 if result["lost"] or result["corrupted"] else 0


def _round(stack: str) -> dict[str, Any]:
    """All figures of one implementation, once."""
    client = "aicn" if stack == "go" else stack
    go = [str(gonode.PROGRAM), "-security", "noise"]
    with _running(go if stack == "go" else _peer("serve", stack)) as server:
        figures = _client("load", client, server, SINK if stack == "go" else COUNT)
    with (
        _running([*go, "-relay", "unlimited"] if stack == "go" else _peer("relay", stack)) as (relay, _),
        _running(_peer("serve", client, relay)) as server,
    ):
        return figures | _client("relayed", client, server)


def _peer(mode: str, stack: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.p2p.peer", mode, stack, *arguments]


def _client(mode: str, stack: str, server: tuple[str, int], *arguments: str) -> dict[str, Any]:
    """What a client process of `stack` finds out about a server, of which (address, pid) is given."""
    command = _peer(mode, stack, server[0], str(server[1]), *arguments)
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=CLIENT_S)
    if done.returncode != 0:
        raise BenchError(f"the client of {stack} failed")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def _running(server: list[str]) -> Iterator[tuple[str, int]]:
    """A server process; its address and pid. It ends with its standard input."""
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child, ended(child):
        assert child.stdout is not None
        line = child.stdout.readline().decode()
        if not line:
            raise BenchError(f"{server} did not start")
        yield json.loads(line)["addresses"][0] if line.startswith("{") else line.strip(), child.pid


if __name__ == "__main__":
    sys.exit(main())
