"""The Go peer of tests/interop/go as a process under measurement: built, started, told what to do."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any

from bench.nodes import BenchError, Vitals, ended

SOURCES = Path(__file__).parents[1] / "tests" / "interop" / "go"
PROGRAM = Path(__file__).parents[1] / ".bench" / "gopeer"


def build() -> bool:
    """The program, if there is Go."""
    if shutil.which("go") is None or not (SOURCES / "go.mod").exists():
        print("go: not measured, there is no Go here\n", flush=True)
        return False
    PROGRAM.parent.mkdir(exist_ok=True)
    subprocess.run(["go", "build", "-o", PROGRAM, "."], check=True, cwd=SOURCES)
    return True


@dataclass(frozen=True)
class GoNode(Vitals):
    """A running Go peer. One command at a time."""

    peer: str
    address: str
    stdin: IO[bytes] = field(repr=False)
    stdout: IO[bytes] = field(repr=False)
    numbers: Iterator[int] = field(default_factory=count, repr=False)

    def call(self, command: str, *, timeout_s: float = 30, **fields: Any) -> Any:
        """What the command returns (tests/interop/go has their names). BenchError: it failed."""
        number = next(self.numbers)
        self.stdin.write(
            json.dumps({"id": number, "command": command, "timeout_s": timeout_s, **fields}).encode() + b"\n"
        )
        self.stdin.flush()
        for line in self.stdout:
            answer = json.loads(line)
            if answer.get("id") == number and "event" not in answer:
                if "error" in answer:
                    raise BenchError(f"the Go node: {command}: {answer['error']}")
                return answer["result"]
        raise BenchError(f"the Go node ended during {command}")


@contextlib.contextmanager
def go_node(*flags: str) -> Iterator[GoNode]:
    """A Go peer while the block runs; it ends with its standard input."""
    with subprocess.Popen([PROGRAM, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child, ended(child):
        assert child.stdin is not None
        assert child.stdout is not None
        ready = json.loads(child.stdout.readline() or b"{}")
        if ready.get("event") != "ready":
            raise BenchError("the Go node did not start")
        yield GoNode(child.pid, ready["peer"], ready["addresses"][0], child.stdin, child.stdout)
