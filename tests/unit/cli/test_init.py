"""aicn init and aicn config: what a new node gets, and that nothing is ever overwritten or half written."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from aicn.cli.files import write_node
from aicn.config.load import load
from aicn.errors import StartupError

Aicn = Callable[..., Result]
PEER = "16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"
ADDRESS = f"/ip4/203.0.113.7/tcp/6001/p2p/{PEER}"


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """new_identity without the second that importing all of the node takes."""
    stand_in = SimpleNamespace(new_identity=lambda: ("CAISI-the-key", PEER), identity_in=None)
    monkeypatch.setitem(sys.modules, "aicn.compose", stand_in)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("role", "dht"), [("input", "client"), ("worker", "auto"), ("public", "server")])
def test_init_writes_a_configuration_that_loads(aicn: Aicn, tmp_path: Path, role: str, dht: str) -> None:
    home = tmp_path / "new" / "node"
    result = aicn("init", "--role", role, "--dir", str(home), "--bootstrap", ADDRESS)
    assert result.exit_code == 0, result.output
    config = load(home / "config.toml", {})
    assert config.p2p.dht_mode == dht
    assert config.p2p.bootstrap == (ADDRESS,)
    assert config.identity.key_file == home / "peer.key"
    assert (home / "peer.key").read_text() == "CAISI-the-key\n"
    assert (mode(home / "peer.key"), mode(home / "config.toml"), mode(home)) == (0o600, 0o644, 0o700)
    assert PEER in result.output
    assert f"aicn daemon --config {home / 'config.toml'}" in result.output
    assert "CAISI" not in result.output


def test_a_network_key_is_made_or_taken_and_guarded(aicn: Aicn, tmp_path: Path) -> None:
    result = aicn("init", "--dir", str(tmp_path / "a"), "--new-psk", "--local-model")
    config = load(tmp_path / "a/config.toml", {})
    assert len(config.p2p.psk) == 64
    assert config.p2p.psk in result.output
    assert config.local_model.enabled
    assert mode(tmp_path / "a/config.toml") == 0o600
    result = aicn("init", "--dir", str(tmp_path / "b"), "--psk", config.p2p.psk)
    assert load(tmp_path / "b/config.toml", {}).p2p.psk == config.p2p.psk
    assert config.p2p.psk not in result.output
    key = tmp_path / "swarm.key"
    key.write_text("/key/swarm/psk/1.0.0/\n/base16/\n" + "ab" * 32)
    aicn("init", "--dir", str(tmp_path / "c"), "--psk-file", str(key))
    assert load(tmp_path / "c/config.toml", {}).p2p.psk_file == str(key)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--psk", "12"], "64 hex digits"),
        (["--psk", "ab" * 32, "--new-psk"], "exclude each other"),
        (["--psk-file", "/no/such/file"], "does not exist"),
        (["--psk-file", __file__, "--psk", "ab" * 32], "exclude each other"),
        (["--bootstrap", "/ip4/1.2.3.4/tcp/1"], "/p2p/<peer id>"),
        (["--role", "boss"], "input"),
    ],
)
def test_wrong_options_write_nothing(aicn: Aicn, tmp_path: Path, args: list[str], words: str) -> None:
    result = aicn("init", "--dir", str(tmp_path / "a"), *args)
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("there", ["config.toml", "peer.key"])
def test_init_never_overwrites(aicn: Aicn, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    result = aicn("init", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path / there} is there already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_both_files_or_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aicn.cli import files

    written: list[str] = []

    def failing(path: Path, text: str, *, mode: int) -> None:
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path.name)
        path.write_text(text)
        path.chmod(mode)

    monkeypatch.setattr(files, "write_new", failing)
    with pytest.raises(StartupError, match=r"cannot be written: No space left on device"):
        write_node(tmp_path, config_text="", key_text="k", secret=True)
    assert written == ["peer.key"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made(aicn: Aicn, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = aicn("init", "--dir", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


def test_config_show_masks_secrets_and_check_says_good(aicn: Aicn, tmp_path: Path) -> None:
    file = str(tmp_path / "config.toml")
    aicn("init", "--dir", str(tmp_path), "--psk", "ab" * 32)
    assert aicn("config", "check", "--config", file).stdout == f"{file}: good\n"
    shown = aicn("config", "show", "--config", file)
    assert "abab" not in shown.output
    assert 'psk = "********"' in shown.output
    document = json.loads(aicn("config", "show", "--json", "--config", file).stdout)
    assert document["p2p"]["psk"] == "********"
    assert document["storage"]["dir"] == str(tmp_path / "data")
