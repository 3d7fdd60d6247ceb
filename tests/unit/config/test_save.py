"""save: what it writes, load reads back; files are whole or not there."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from aicn.config.keys import MASK, keys, value_of
from aicn.config.load import load
from aicn.config.presets import ROLES, preset
from aicn.config.save import render, render_plain, to_toml, write_new
from aicn.config.schema import Config

PEER = "/ip4/203.0.113.7/tcp/6001/p2p/16Uiu2HAmS4CErxrmPryJbbEX2HFQbLK8r8xCA5rmzdSU59rHc9AF"


@pytest.mark.parametrize("role", ROLES)
def test_a_rendered_config_is_read_back_as_it_was(tmp_path: Path, role: str) -> None:
    config = preset(role, bootstrap=(PEER,), psk="ab" * 32, local_model=True)
    config = replace(config, limits=replace(config.limits, model_concurrency={'a "b"\\': 4}, gap_s=0.25))
    (tmp_path / "config.toml").write_text(render(config))
    read = load(tmp_path / "config.toml", {})
    assert replace(read, identity=config.identity, storage=config.storage) == config


def test_every_key_stands_there_once_commented_out_when_default() -> None:
    lines = render(Config()).splitlines()
    for key in keys():
        assert f"# {key.name} = {to_toml(key.default)}" in lines
    assert tomllib.loads(render(Config())) == {key.section: {} for key in keys()}


def test_the_commented_defaults_are_valid_once_uncommented(tmp_path: Path) -> None:
    text = render(Config())
    for key in keys():
        text = text.replace(f"\n# {key.name} = ", f"\n{key.name} = ")
    (tmp_path / "config.toml").write_text(text)
    assert load(tmp_path / "config.toml", {}) == load(_empty(tmp_path), {})


def _empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.toml"
    path.write_text("")
    return path


def test_plain_masks_secrets_and_is_toml() -> None:
    config = preset("public", psk="ab" * 32)
    document = tomllib.loads(render_plain(config))
    assert document["p2p"]["psk"] == MASK
    assert document["p2p"]["dht_mode"] == "server"
    assert sum(len(table) for table in document.values()) == len(keys())
    assert {value_of(Config(), key, mask=True) for key in keys() if key.secret} == {""}


def test_write_new_makes_the_whole_file_with_its_mode(tmp_path: Path) -> None:
    write_new(tmp_path / "a", "text", mode=0o600)
    assert (tmp_path / "a").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_write_new_never_replaces_a_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", "new", mode=0o600)
    assert (tmp_path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
