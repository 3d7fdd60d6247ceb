"""Config → TOML that people like to read, and files that are whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from aicn.config.keys import Key, keys, sections, value_of
from aicn.config.schema import Config

_HEAD = """\
# Configuration of an aicn node. Lines that begin with "#" show what holds unless you change it: remove the "#" to do so.
# Each key can be overridden by an environment variable AICN_<SECTION>_<KEY>, such as AICN_P2P_LISTEN.
# Relative paths start at this file's directory. Check with: aicn config check
"""


def render(config: Config) -> str:
    """A commented config.toml with every key: those that differ from the default in force, the others commented out."""
    lines = [_HEAD]
    for section, cls in sections().items():
        lines += [f"# {_first_line(cls)}", f"[{section}]", ""]
        for key in keys():
            if key.section == section:
                value = value_of(config, key)
                lines += _comment(key)
                lines += [f"{'# ' if value == key.default else ''}{key.name} = {to_toml(value)}", ""]
    return "\n".join(lines)


def render_plain(config: Config) -> str:
    """Every key with its value and no comments, secrets masked: what `aicn config show` prints."""
    blocks = []
    for section in sections():
        own = [key for key in keys() if key.section == section]
        blocks.append(
            "\n".join([f"[{section}]", *(f"{k.name} = {to_toml(value_of(config, k, mask=True))}" for k in own)])
        )
    return "\n\n".join(blocks) + "\n"


def to_toml(value: Any) -> str:
    """One value of the schema's types in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{to_toml(name)} = {to_toml(entry)}" for name, entry in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(to_toml(entry) for entry in value)}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's too


def write_new(path: Path, text: str, *, mode: int) -> None:
    """Makes `path` with all of `text` or not at all; FileExistsError when it is there already."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike a rename it never replaces a file
    finally:
        Path(temporary).unlink()


def _comment(key: Key) -> list[str]:
    """The key's sentence, and what it may hold where the value does not show it."""
    limits = f" From {key.bounds}." if key.bounds else ""
    choices = f" One of: {', '.join(key.choices)}." if len(key.choices) > 1 else ""
    return [f"# {line}" for line in wrap(f"{key.doc}{choices}{limits}", width=116)]


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").partition("\n")[0]
