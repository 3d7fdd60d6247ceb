"""A js-libp2p peer as a process: its modules from the lock file, and commands and events as lines of JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from aicn.config.schema import P2P

HERE = Path(__file__).parent
CACHE = Path(__file__).parents[3] / ".cache" / "interop-js"
PROTOCOL = "/aicn/interop/1"  # exchange.mjs and exchange.py
TOPIC = P2P().topic

ANSWER_S = 40.0  # for a command or an event; the peer's own deadlines are shorter
_INSTALL_S = 300
_OLDEST_NODE = 20


class JsError(Exception):
    """A command failed in the peer; the text begins with the name of the JavaScript error."""


def missing() -> str | None:
    """What keeps peers from running here; None: nothing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"no {program}"
    version = subprocess.run(
        ["node", "--version"], check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()
    return f"node {version} is too old" if int(version.lstrip("v").split(".")[0]) < _OLDEST_NODE else None


def install() -> Path:
    """The node_modules of the lock file, installed once per content of it. CalledProcessError when npm cannot."""
    locks = [HERE / "package.json", HERE / "package-lock.json"]
    target = CACHE / hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as directory:
            for lock in locks:
                shutil.copy(lock, directory)
            # no scripts: nothing that we use is compiled
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory, timeout=_INSTALL_S)
            try:
                Path(directory).rename(target)
            except OSError:
                if not target.exists():  # then another test run was faster
                    raise
    return target / "node_modules"


class JsPeer:
    """One peer. It ends with the block that opened it."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.id = ""
        self.addresses: list[str] = []
        self._events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = trio.Event()  # set and replaced when a line has come
        self._writing = trio.Lock()
        self._commands = 0
        self._ended = False

    @property
    def address(self) -> str:
        """Its first address, with its id."""
        return self.addresses[0]

    async def call(self, command: str, **arguments: object) -> Any:
        """The result of a command of peer.mjs. JsError."""
        self._commands += 1
        number = self._commands
        line = json.dumps({"id": number, "command": command} | arguments) + "\n"
        assert self.process.stdin is not None
        async with self._writing:
            await self.process.stdin.send_all(line.encode())
        await self._until(lambda: number in self._answers, command)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise JsError(answer["error"])
        return answer["result"]

    async def event(self, name: str, **fields: object) -> dict[str, Any]:
        """The first event so far, or the next one to come, with that name and those fields."""
        await self._until(lambda: bool(self.events(name, **fields)), f"{name} {fields}")
        return self.events(name, **fields)[0]

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """All such events so far."""
        wanted = {"event": name} | fields
        return [
            event for event in self._events if wanted.items() <= {k: v for k, v in event.items() if k in wanted}.items()
        ]

    def forget(self, name: str) -> None:
        """Forget the events of that name so far."""
        self._events = [event for event in self._events if event["event"] != name]

    async def _until(self, condition: Any, what: str) -> None:
        with trio.move_on_after(ANSWER_S):
            while not condition():
                if self._ended:
                    raise AssertionError(f"the js peer ended before {what}")
                await self._news.wait()
            return
        raise AssertionError(f"no {what} from the js peer; last of it: {self._events[-5:]}")

    async def pump(self) -> None:
        """Take what the peer says, until it ends."""
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["event"] == "answer":
                    self._answers[message["id"]] = message
                else:
                    self._events.append(message)
            self._tell()
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()


@asynccontextmanager
async def open_js(directory: Path, **options: object) -> AsyncIterator[JsPeer]:
    """A running peer, its options those of peer.mjs. `directory` has its program and its modules."""
    options.setdefault("listen", ["/ip4/127.0.0.1/tcp/0"])
    command = ["node", "--import", "./polyfill.mjs", "peer.mjs", json.dumps(options)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NODE_", "DEBUG"))}
    process = await trio.lowlevel.open_process(
        command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    peer = JsPeer(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.pump)
            ready = await peer.event("ready")
            peer.id, peer.addresses = ready["peer"], ready["addresses"]
            yield peer
            nursery.cancel_scope.cancel()
    finally:
        process.kill()  # also one that was stopped
        with trio.CancelScope(shield=True):
            await process.wait()
