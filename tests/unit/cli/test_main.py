"""The program as a whole: quick help, exit codes, and a manual that has every command and option."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import Result

from aicn.cli.main import COMMANDS
from aicn.errors import StartupError

Aicn = Callable[..., Result]
MANUAL = Path(__file__).parents[3] / "docs/cli.md"
HEAVY = ("libp2p", "quart", "hypercorn", "httpx", "rich", "trio", "aicn.compose")


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from aicn.cli.main import cli
cli(["--help"], standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for name, (_, line) in COMMANDS.items():
        assert name in done.stdout
        assert line in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_commands_say(name: str, aicn: Aicn) -> None:
    module, line = COMMANDS[name]
    assert import_module(module).command.get_short_help_str(limit=200) == line
    assert aicn(name, "--help").exit_code == 0


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    for name, (module, _) in COMMANDS.items():
        command = import_module(module).command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", one) for sub, one in command.commands.items())
        else:
            yield name, command


def test_the_manual_has_every_command_and_option() -> None:
    sections = {part.partition("\n")[0]: part for part in MANUAL.read_text().split("\n### aicn ")[1:]}
    commands = dict(_all_commands())
    assert set(sections) == set(commands)
    for name, command in commands.items():
        for parameter in command.params:
            options = parameter.opts if isinstance(parameter, click.Option) else [str(parameter.name).upper()]
            for option in options:
                assert option in sections[name], f"docs/cli.md, aicn {name}: {option} is missing"


def test_an_unknown_command_names_the_nearest(aicn: Aicn) -> None:
    result = aicn("staus")
    assert result.exit_code == 2
    assert "Did you mean status?" in result.output


def test_the_version(aicn: Aicn) -> None:
    assert aicn("--version").output.startswith("aicn, version ")


def test_a_wrong_configuration_is_exit_code_2_and_one_line(aicn: Aicn, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[p2p]\nlistne = []")
    for command in (["daemon"], ["config", "check"], ["config", "show"]):
        result = aicn(*command, "--config", str(tmp_path / "config.toml"))
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "did you mean p2p.listen?" in result.stderr
        assert result.stdout == ""


def _stand_in(monkeypatch: pytest.MonkeyPatch, run: Callable[[object], int]) -> None:
    monkeypatch.setitem(sys.modules, "aicn.compose", SimpleNamespace(run=run))
    monkeypatch.setattr("aicn.compose", sys.modules["aicn.compose"], raising=False)


def test_daemon_runs_the_node_and_passes_its_exit_code_on(
    aicn: Aicn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    _stand_in(monkeypatch, lambda config: seen.append(config) or 7)
    (tmp_path / "config.toml").write_text("[p2p]\ntopic = 'mine'")
    monkeypatch.setenv("AICN_HTTP_LISTEN", "127.0.0.1:7007")
    result = aicn("daemon", "--config", str(tmp_path / "config.toml"))
    assert result.exit_code == 7
    assert seen[0].p2p.topic == "mine"  # type: ignore[attr-defined]
    assert seen[0].http.listen == "127.0.0.1:7007"  # type: ignore[attr-defined]


def test_a_node_that_cannot_start_is_exit_code_1_and_one_line(
    aicn: Aicn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_config: object) -> int:
        raise StartupError("127.0.0.1:6000: the port is in use")

    _stand_in(monkeypatch, run)
    (tmp_path / "config.toml").write_text("")
    result = aicn("daemon", "--config", str(tmp_path / "config.toml"))
    assert (result.exit_code, result.stderr) == (1, "Error: 127.0.0.1:6000: the port is in use\n")
