"""The processes under measurement: daemons on loopback, what they use, and how they are started and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S = 30.0  # a daemon that needs longer is broken
STOP_S = 15.0  # shutdown_grace_s and then some
AICN = Path(sys.executable).with_name("aicn")
TICKS = os.sysconf("SC_CLK_TCK")

# Other than the defaults: one model with 1000 streams at once is the point of a row. Everything else is as users run it.
CONFIG = """\
[p2p]
listen = ["/ip4/127.0.0.1/tcp/0"]
bootstrap = {bootstrap}
dht_mode = "server"

[http]
listen = "127.0.0.1:{port}"

[limits]
concurrency = 1024

[logging]
level = "warning"
"""


class BenchError(Exception):
    """Something broke; no figure."""


@dataclass(frozen=True)
class Vitals:
    """The vital signs of a process."""

    pid: int

    def cpu_s(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime (proc(5), fields 14 and 15)

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(match[1]) / 1024 if match else 0.0


@dataclass(frozen=True)
class Daemon(Vitals):
    """A node under measurement."""

    name: str
    api: str  # http://127.0.0.1:port/api/v0
    ready_s: float  # from spawning it to /readyz answering 200
    log: Path

    def address(self) -> str:
        """Where others reach it, as a multiaddr that ends in its peer id."""
        me = self.call("/id")
        return f"{me['addresses'][0]}/p2p/{me['peer_id']}"

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST `body`, or GET without one; the answer's `data` when it has an envelope. BenchError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise BenchError(f"{self.name}: {path}: {error.code} {error.read(500)!r}") from None
        except OSError as error:
            raise BenchError(f"{self.name}: {path}: {error}") from None


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def daemon(name: str, directory: Path, *bootstrap: str) -> Iterator[Daemon]:
    """A new node with its own fresh data directory, which joins through `bootstrap`; ready when it is given."""
    shutil.rmtree(directory, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AICN_")}
    subprocess.run([AICN, "init", "--dir", directory], check=True, stdout=subprocess.DEVNULL, env=environment)
    port = free_port()
    (directory / "config.toml").write_text(CONFIG.format(port=port, bootstrap=json.dumps(bootstrap)))
    log = directory / "log"
    start = time.monotonic()
    with log.open("wb") as out:
        child = subprocess.Popen(
            [AICN, "daemon", "--config", directory / "config.toml"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    with ended(child):
        _wait_ready(name, child, port, log)
        yield Daemon(child.pid, name, f"http://127.0.0.1:{port}/api/v0", time.monotonic() - start, log)


@contextlib.contextmanager
def fake_endpoint(load: Path, usual: str = "") -> Iterator[str]:
    """The fake model endpoint; its URL. `usual`: how it answers where a URL's query does not say it."""
    port = free_port()
    child = subprocess.Popen([load, "serve", f"127.0.0.1:{port}", usual])
    with ended(child):
        deadline = time.monotonic() + READY_S
        while not _answers(port, "/stats"):
            if child.poll() is not None or time.monotonic() > deadline:
                raise BenchError("the fake endpoint did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"


@contextlib.contextmanager
def ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """`child` is gone when the block is left: asked first, then killed."""
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_ready(name: str, child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(port, "/readyz"):
        if child.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"{name} did not become ready:\n{log.read_text()[-2000:]}")
        time.sleep(0.005)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
