"""The Go peer (tests/interop/go) as a child process: built once per state of its sources, told what to do, listened to."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "interop" / "go"
CACHE = ROOT / ".cache" / "gopeer"
# What the existing network runs, and the newest libraries.
VERSIONS = {"v0.33.1": (), "latest": ("-modfile=latest.mod", "-tags=latest")}
BUILD_S = 600  # the first time everything is downloaded and compiled; later it takes no time
START_S = 30
EVENT_S = 30  # for what happens by itself

log = logging.getLogger(__name__)

Event = dict[str, Any]


def require(version: str) -> Path:
    """The program on libraries of `version`. Skips the test where no Go is; in CI that is a failure."""
    go = shutil.which("go")
    if go is None:
        if os.environ.get("CI"):
            pytest.fail("go is not installed")
        pytest.skip("go is not installed")
    program = CACHE / version / _fingerprint() / "gopeer"
    if not program.exists():
        _build(go, version, program)
    return program


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for source in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _build(go: str, version: str, program: Path) -> None:
    shutil.rmtree(CACHE / version, ignore_errors=True)  # 40 MB per state of the sources
    program.parent.mkdir(parents=True)
    built = program.with_name(f"building-{os.getpid()}")  # two runs may build at once
    command = [go, "build", "-trimpath", "-buildvcs=false", *VERSIONS[version], "-o", str(built), "."]
    done = subprocess.run(command, check=False, cwd=SOURCES, capture_output=True, text=True, timeout=BUILD_S)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    built.replace(program)


class GoError(Exception):
    """A command of the Go peer failed; the message is Go's."""


class GoPeer:
    """A running Go peer. Calling it runs a command (main.go has the fields, commands.go the names)."""

    id: str
    address: str  # ends in /p2p/<id>; empty when it listens nowhere

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._events: list[Event] = []
        self._answers: dict[int, Event] = {}
        self._number = 0
        self._news = trio.Event()
        self._sending = trio.Lock()

    async def __call__(self, command: str, *, timeout_s: float = 30, **fields: Any) -> Any:
        """What the command returns. GoError when it failed."""
        assert self._process.stdin is not None
        self._number += 1
        number = self._number
        line = json.dumps({"id": number, "command": command, "timeout_s": timeout_s, **fields})
        async with self._sending:
            await self._process.stdin.send_all(line.encode() + b"\n")
        with trio.fail_after(timeout_s + 5):
            while number not in self._answers:
                await self._news.wait()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise GoError(answer["error"])
        return answer["result"]

    async def event(self, name: str, *, seconds: float = EVENT_S, **fields: Any) -> Event:
        """The next event of that name and with these fields that was not asked for before."""
        wanted = {"event": name, **fields}
        with trio.fail_after(seconds):
            while True:
                for number, event in enumerate(self._events):
                    if wanted.items() <= event.items():
                        return self._events.pop(number)
                await self._news.wait()

    async def until(self, condition: Callable[[Any], bool], command: str, **fields: Any) -> Any:
        """Run a command, for what no event tells, until it works and `condition` holds for its result; that result."""
        with trio.fail_after(EVENT_S):
            while True:
                try:
                    if condition(result := await self(command, **fields)):
                        return result
                except GoError as error:
                    log.info("%s: %s", command, error)  # pytest shows it when the deadline passes
                await trio.sleep(0.05)

    def freeze(self) -> None:
        """It takes part in nothing any more, but its connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As kill -9: nobody is told."""
        self._process.kill()

    async def ended(self, *, seconds: float = EVENT_S) -> None:
        """Until the process has ended by itself."""
        with trio.fail_after(seconds):
            await self._process.wait()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Take in what the process says, until it ends; started when it is ready."""
        assert self._process.stdout is not None
        unread = b""
        async for data in self._process.stdout:
            *lines, unread = (unread + data).split(b"\n")
            for line in map(json.loads, lines):
                if line.get("event") == "ready":
                    self.id, self.address = line["peer"], next(iter(line["addresses"]), "")
                    task_status.started()
                elif "event" in line:
                    self._events.append(line)
                else:
                    self._answers[line["id"]] = line
            news, self._news = self._news, trio.Event()
            news.set()


@asynccontextmanager
async def open_go_peer(program: Path, *flags: str, prefix: Sequence[str] = ()) -> AsyncIterator[GoPeer]:
    """A Go peer that is killed at the end of the block. `prefix`: a command that runs it, in a namespace for one."""
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            [*prefix, str(program), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        peer = GoPeer(process)
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    with trio.fail_after(START_S):
                        await nursery.start(peer.run)
                except (RuntimeError, trio.TooSlowError):  # its output has ended, or there was none
                    errors.seek(0)
                    pytest.fail(f"the Go peer does not start: {errors.read().decode()}")
                try:
                    yield peer
                except Exception as error:
                    failure = error  # raised below: the nursery would wrap it in a group
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdin.aclose()
                await process.stdout.aclose()
    if failure is not None:
        raise failure
