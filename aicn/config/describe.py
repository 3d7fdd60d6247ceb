"""docs/configuration.md and config.example.toml, made from the schema: `python -m aicn.config.describe` rewrites both."""

from __future__ import annotations

from pathlib import Path

from aicn.config.keys import Key, keys, sections
from aicn.config.presets import ROLES
from aicn.config.save import render, to_toml
from aicn.config.schema import Config

REGENERATE = "python -m aicn.config.describe"

_HEAD = f"""\
# Configuration

<!-- Made from aicn/config/schema.py by `{REGENERATE}`; a test fails when it is stale. -->

A node reads one TOML file: the one named by `--config`, else by `AICN_CONFIG`, else `~/.aicn/config.toml`. `aicn init` writes it,
with every key and its default as a comment; [config.example.toml](../config.example.toml) is the same file for the defaults.
All keys are optional: an empty file is a valid configuration.

- **Environment.** `AICN_<SECTION>_<KEY>` overrides a key (the tables name each variable). Lists are comma separated or a TOML
  array, tables are TOML inline tables, switches are `true` or `false`. An `AICN_` variable that is no key is an error;
  `AICN_CONFIG`, `AICN_API` and `AICN_API_KEY` belong to the command line.
- **Paths** that are relative start at the directory of the file, wherever the node is started; `~` is the home directory.
- **Errors.** An unknown key, a wrong type or an impossible value ends the program with exit code 2 and one line that names the file
  (or variable), the key, what was expected, and the nearest valid key. `aicn config check` does nothing else.
- **Secrets** (marked below) are masked by `aicn config show`; a file that holds one should have mode 0600, as `aicn init` gives it.
- Durations end in `_s` and are in seconds; sizes end in `_bytes`.
"""


def markdown() -> str:
    """The whole of docs/configuration.md."""
    parts = [_HEAD, "## Roles\n", "`aicn init --role ROLE` starts from these departures from the defaults:\n"]
    parts += [f"- **{name}**: {role.doc}.{_departures(role.config)}" for name, role in ROLES.items()]
    for section, cls in sections().items():
        parts += [f"\n## [{section}]\n", f"{(cls.__doc__ or '').strip()}\n"]
        parts += ["| key | type | default | bounds | variable | meaning |", "|---|---|---|---|---|---|"]
        parts += [_row(key) for key in keys() if key.section == section]
    return "\n".join(parts) + "\n"


def _row(key: Key) -> str:
    doc = key.doc + (" **Secret.**" if key.secret else "")
    cells = (f"`{key.name}`", _type(key), f"`{to_toml(key.default)}`", key.bounds, f"`{key.variable}`", doc)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def _type(key: Key) -> str:
    if key.choices:
        return " or ".join(f"`{choice}`" for choice in key.choices)
    if key.is_list:
        return f"list of {_noun(key)}s"
    if key.is_table:
        return "table of integers"
    return _noun(key)


def _noun(key: Key) -> str:
    nouns = {
        "listen_multiaddr": "multiaddr",
        "multiaddr": "multiaddr",
        "peer_multiaddr": "multiaddr",
        "hex32": "64 hex digits",
        "hostport": "address:port",
        "protocol_prefix": "protocol prefix",
        "file": "path",
    }
    plain = {bool: "boolean", int: "integer", float: "number", Path: "path"}
    return nouns.get(key.kind) or plain.get(key.type, "text")


def _departures(config: Config) -> str:
    differing = [
        f"`{key.path} = {to_toml(value)}`"
        for key in keys()
        if (value := getattr(getattr(config, key.section), key.name)) != key.default
    ]
    return " " + ", ".join(differing) + "." if differing else " The defaults."


def main() -> None:
    """Writes both files under the current directory, which is the repository's root."""
    Path("docs/configuration.md").write_text(markdown(), encoding="utf-8")
    Path("config.example.toml").write_text(render(Config()), encoding="utf-8")


if __name__ == "__main__":
    main()
