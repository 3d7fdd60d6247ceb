"""The files made from the schema are the ones in the repository."""

from __future__ import annotations

from pathlib import Path

from aicn.config.describe import REGENERATE, markdown
from aicn.config.keys import keys
from aicn.config.save import render
from aicn.config.schema import Config

ROOT = Path(__file__).parents[3]


def test_the_documentation_has_every_key() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert all(f"`{key.variable}`" in text and f"| `{key.name}` |" in text for key in keys())
    assert text == markdown(), f"docs/configuration.md is stale; run: {REGENERATE}"


def test_the_example_is_the_defaults() -> None:
    assert (ROOT / "config.example.toml").read_text() == render(Config()), (
        f"config.example.toml is stale; run: {REGENERATE}"
    )


def test_every_key_says_what_it_does_and_has_its_bounds_inside_its_default() -> None:
    for key in keys():
        assert key.doc.endswith((".", "any.")), key.path
        if isinstance(key.default, (int, float)) and not isinstance(key.default, bool):
            assert key.least is not None, key.path
            assert key.most is not None, key.path
            assert key.least <= key.default <= key.most, key.path
