"""Networks of child processes, with a stand-in for the daemon: started, watched, and never left behind."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from aicn.cli import processes
from aicn.cli.processes import Daemon, Member, interruptible, open_network
from aicn.config.load import load
from tests.fakes import daemon as fake_daemon

MEMBERS = (Member("first", "public"), Member("second", "worker", local_model=True), Member("third", "input"))


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 10))
    peer = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"
    monkeypatch.setitem(
        sys.modules, "aicn.compose", SimpleNamespace(new_identity=lambda: (f"key {next(numbers)}", peer))
    )
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P {fake_daemon.__file__} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(processes.sys, "executable", str(program))
    monkeypatch.setattr(processes, "_STOP_S", 1.0)


def assert_gone(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        with pytest.raises(ProcessLookupError):
            os.kill(daemon.process.pid, 0)


def test_a_network_comes_up_and_goes_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_network(MEMBERS, tmp_path / "net") as daemons:
        assert [daemon.plan.name for daemon in daemons] == ["first", "second", "third"]
        configs = [load(daemon.plan.config_file, {}) for daemon in daemons]
        assert len({config.p2p.psk for config in configs}) == 1
        assert [config.p2p.bootstrap for config in configs] == [(), *[(daemons[0].plan.address,)] * 2]
        assert [config.local_model.enabled for config in configs] == [False, True, False]
        assert [config.p2p.dht_mode for config in configs] == ["server", "auto", "client"]
        assert all(stat.S_IMODE(daemon.plan.config_file.stat().st_mode) == 0o600 for daemon in daemons)
        listens = [text for config in configs for text in (config.http.listen, *config.p2p.listen)]
        assert len(set(listens)) == 6
    assert [daemon.process.returncode for daemon in daemons] == [0, 0, 0]
    assert_gone(daemons)
    said = capsys.readouterr().out
    assert said.count("ready in") == 3
    assert "Stopped first, second, third" in said


def test_one_that_dies_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "second=dies")
    with (
        pytest.raises(click.ClickException, match=r"(?s)second ended with exit code 3.*my last words"),
        open_network(MEMBERS, tmp_path / "net"),
    ):
        pytest.fail("came up")


def test_one_that_ends_badly_when_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "third=sick")
    with (
        pytest.raises(click.ClickException, match="third ended with exit code 7 when stopped"),
        open_network(MEMBERS, tmp_path / "net"),
    ):
        pass


def test_one_that_does_not_stop_is_killed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "first=deaf")
    running: list[Daemon] = []
    with (
        pytest.raises(click.ClickException, match=f"first ended with exit code {-signal.SIGKILL} when stopped"),
        open_network(MEMBERS, tmp_path / "net") as daemons,
    ):
        running += daemons
    assert_gone(running)


def test_an_interrupt_leaves_nobody_behind(tmp_path: Path) -> None:
    running: list[Daemon] = []
    with pytest.raises(KeyboardInterrupt), interruptible(), open_network(MEMBERS, tmp_path / "net") as daemons:
        running += daemons
        os.kill(os.getpid(), signal.SIGTERM)
    assert_gone(running)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
