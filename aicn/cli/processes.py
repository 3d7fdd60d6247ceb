"""Networks of daemons as child processes on loopback, for `aicn demo` and `aicn testnet`.

`open_network` writes a configuration and a key for each member, starts the first one (the others join through it), then the rest, and
stops them all when its block is left, whatever the reason. Each daemon has a process group of its own, so that a Ctrl-C reaches only
us, and its log in a file that is shown when it fails.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import click
import httpx

from aicn.cli.files import write_node
from aicn.config.load import environment
from aicn.config.presets import preset
from aicn.config.save import render
from aicn.config.schema import Http

READY_S = 60.0  # a node is ready in 2 s; a model may have to be read from a cold disk first
_STOP_S = 15.0  # the nodes' own grace is 5 s (limits.shutdown_grace_s)
_POLL_S = 0.05
_LAST_LINES = 15  # of a log, shown when its daemon fails


@dataclass(frozen=True, slots=True)
class Member:
    """A node that a network shall have."""

    name: str
    role: str  # of aicn.config.presets
    local_model: bool = False
    port: int = 0  # preferred for the API; 0 or taken: a free one


@dataclass(frozen=True, slots=True)
class Plan:
    """A member with all that is chosen for it."""

    member: Member
    peer_id: str
    url: str  # of its API
    address: str  # multiaddr with /p2p/<id>
    config_file: Path
    log_file: Path

    @property
    def name(self) -> str:
        return self.member.name


@dataclass
class Daemon:
    """A plan that runs."""

    plan: Plan
    process: subprocess.Popen[bytes]
    started_at: float  # time.monotonic()

    def check(self) -> None:
        """ClickException with the last words of the daemon when it has ended."""
        if (code := self.process.poll()) is not None:
            raise click.ClickException(f"{self.plan.name} ended with exit code {code}. {self.last_words()}")

    def wait_ready(self) -> float:
        """Seconds that it took from its start until /readyz said yes; ClickException when it ends or takes too long."""
        with httpx.Client(timeout=1.0, trust_env=False) as client:
            while time.monotonic() < self.started_at + READY_S:
                self.check()
                try:
                    if client.get(f"{self.plan.url}/readyz").status_code == 200:
                        return time.monotonic() - self.started_at
                except httpx.TransportError:
                    pass  # not listening yet
                time.sleep(_POLL_S)
        raise click.ClickException(f"{self.plan.name} was not ready within {READY_S:.0f} s. {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        with self.plan.log_file.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=_LAST_LINES)
        return "The end of its log:\n" + "".join(f"  {line}" for line in lines) if lines else "It wrote no log."


@contextmanager
def open_network(members: Sequence[Member], directory: Path) -> Iterator[list[Daemon]]:
    """The members as running, ready daemons, in their order; ClickException naming the one that fails.

    Leaving the block stops them; when it is left without an error, one that does not exit with 0 is an error, too.
    """
    plans = plan(members, directory)
    daemons: list[Daemon] = []
    with ExitStack() as stack:
        stack.callback(end, daemons)
        for batch in (plans[:1], plans[1:]):
            for one in batch:
                with _uninterrupted():  # a process that is not noted down yet could not be ended
                    daemons.append(start(one))
            for daemon in daemons[len(daemons) - len(batch) :]:
                seconds = daemon.wait_ready()
                click.echo(
                    f"  {daemon.plan.name:<9} ready in {seconds:.1f} s   {daemon.plan.url}   {daemon.plan.peer_id}"
                )
        yield daemons
        _stop(daemons)


def plan(members: Sequence[Member], directory: Path) -> list[Plan]:
    """Configurations and keys below `directory`: one private network; all but the first join through the first."""
    from aicn.compose import new_identity

    psk = secrets.token_hex(32)
    plans: list[Plan] = []
    for member, (api_port, p2p_port) in zip(members, _free_ports([m.port for m in members]), strict=True):
        key_text, peer_id = new_identity()
        listen = f"/ip4/127.0.0.1/tcp/{p2p_port}"
        bootstrap = (plans[0].address,) if plans else ()
        config = preset(member.role, bootstrap=bootstrap, psk=psk, local_model=member.local_model)
        config = replace(config, http=Http(listen=f"127.0.0.1:{api_port}"), p2p=replace(config.p2p, listen=(listen,)))
        home = directory / member.name
        config_file = write_node(home, config_text=render(config), key_text=key_text, secret=True)
        url = f"http://127.0.0.1:{api_port}"
        plans.append(Plan(member, peer_id, url, f"{listen}/p2p/{peer_id}", config_file, home / "daemon.log"))
    return plans


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that it can clean up.

    SIGINT is set, too: a shell script starts its background jobs with it ignored, and Python leaves that as it is.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt):
        yield


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """What would interrupt the block does so at its end."""
    caught: list[int] = []
    with _handling(lambda number, _frame: caught.append(number)):
        yield
    if caught:
        raise KeyboardInterrupt


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """`handler` for all signals that ask us to end, until the block is left."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _free_ports(preferred: Sequence[int]) -> list[tuple[int, int]]:
    """(API port, p2p port) for each member, all different; an API port is the preferred one when that is free."""
    with ExitStack() as held:  # until all are chosen, so that none is given twice

        def hold(port: int) -> int:
            listener = held.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

        return [(hold(port), hold(0)) for port in preferred]


def start(one: Plan) -> Daemon:
    """Run it; its log goes on where there is one."""
    with one.log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "aicn.cli.main", "daemon", "--config", str(one.config_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
            process_group=0,
        )
    return Daemon(one, process, time.monotonic())


def _stop(daemons: Sequence[Daemon]) -> None:
    """The polite end: SIGTERM to all, and exit code 0 from all."""
    begun = time.monotonic()
    for daemon in daemons:
        daemon.check()
    end(daemons)
    for daemon in daemons:
        if daemon.process.returncode != 0:
            raise click.ClickException(
                f"{daemon.plan.name} ended with exit code {daemon.process.returncode} when stopped. {daemon.last_words()}"
            )
    names = ", ".join(daemon.plan.name for daemon in daemons)
    click.echo(f"Stopped {names} in {time.monotonic() - begun:.1f} s, exit code 0 each.")


def end(daemons: Sequence[Daemon]) -> None:
    """Nobody is left: SIGTERM, and SIGKILL for whoever is still there after the grace or when we are interrupted again."""
    try:
        for daemon in daemons:
            if daemon.process.poll() is None:
                daemon.process.terminate()
        deadline = time.monotonic() + _STOP_S
        for daemon in daemons:
            try:
                daemon.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue  # killed below, and its exit code tells
    finally:
        for daemon in daemons:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()


def port_of(url: str) -> int:
    """The port of an API's URL."""
    return urlsplit(url).port or 0
