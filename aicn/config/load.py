"""config.toml and the environment → Config. The only reader of `os.environ` in aicn.

Every error is a ConfigError of one line: the file or variable, the key, what was expected, the nearest valid key. A secret is never
repeated in it.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aicn.config.keys import Key, keys, sections
from aicn.config.schema import Config
from aicn.config.values import check, from_text, host_port, multiaddr_tcp
from aicn.errors import ConfigError

PREFIX = "AICN_"
RESERVED = frozenset(
    {"AICN_CONFIG", "AICN_API", "AICN_API_KEY", "AICN_KEY"}
)  # the command line's: file, node, key of an endpoint, of ours
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, bound nowhere


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in `path`, overridden by `AICN_<SECTION>_<KEY>` in `environ`; ConfigError when it cannot be used.

    Paths in it come out absolute: relative ones (also those of variables) are resolved against the directory of `path`.
    """
    base = path.absolute().parent
    values = {key.path: value for key, value in _from_file(path, base)}
    values |= {key.path: value for key, value in _from_environment(environ, base)}
    for key in keys():
        if key.path not in values and key.type is Path:
            values[key.path] = base / key.default
    config = Config(
        **{
            name: cls(**{key.name: values[key.path] for key in keys() if key.section == name and key.path in values})
            for name, cls in sections().items()
        }
    )
    check_together(config, path)
    return config


def notify_socket(environ: Mapping[str, str] = os.environ) -> str | None:
    """Where systemd wants to hear that the service is ready (sd_notify(3)); None: nobody asked."""
    return environ.get("NOTIFY_SOCKET") or None


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without any AICN_… variable: what a child process gets that brings its own configuration."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _from_file(path: Path, base: Path) -> list[tuple[Key, Any]]:
    document = _parse(path)
    known = {key.path: key for key in keys()}
    found = []
    for section, table in document.items():
        if section not in sections():
            if not isinstance(table, dict):
                raise ConfigError(f"{path}: {section}: every key belongs to a [section]{_nearest(section)}")
            raise ConfigError(f"{path}: {section}: unknown section{_nearest_section(section)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section}: expected a section, [{section}], got {_shown(table)}")
        for name, value in table.items():
            key = known.get(f"{section}.{name}")
            if key is None:
                raise ConfigError(f"{path}: {section}.{name}: unknown key{_nearest(f'{section}.{name}')}")
            found.append((key, _checked(f"{path}: {key.path}", key, value, base)))
    return found


def _from_environment(environ: Mapping[str, str], base: Path) -> list[tuple[Key, Any]]:
    known = {key.variable: key for key in keys()}
    found = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        key = known.get(variable)
        if key is None:
            close = difflib.get_close_matches(variable, [*known, *RESERVED], n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{variable}: unknown environment variable{hint}")
        where = f"environment variable {variable} ({key.path})"
        try:
            value = from_text(key, environ[variable])
        except ValueError:
            raise _wrong(where, key, environ[variable]) from None
        found.append((key, _checked(where, key, value, base)))
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; make one with: aicn init --dir {path.parent}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error  # it names line and column
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not TOML: byte {error.start} is not UTF-8") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _checked(where: str, key: Key, value: Any, base: Path) -> Any:
    try:
        return check(key, value, base=base)
    except ValueError:
        raise _wrong(where, key, value) from None


def _wrong(where: str, key: Key, value: Any) -> ConfigError:
    got = "something else (a secret, not shown)" if key.secret else _shown(value)
    return ConfigError(f"{where}: expected {key.expected}; got {got}")


def _shown(value: Any) -> str:
    """`value` as one short line, as TOML writes it where that is simple."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:79] + "…"


def _nearest(path: str) -> str:
    """`; did you mean p2p.listen?`, or nothing when no key is like `path` (with or without its section)."""
    name = path.rpartition(".")[2]
    moved = [key.path for key in keys() if key.name == name]  # the right name in the wrong section
    close = moved or difflib.get_close_matches(path, [key.path for key in keys()], n=1, cutoff=0.7)
    if not close:
        names = difflib.get_close_matches(name, [key.name for key in keys()], n=1, cutoff=0.7)
        close = [key.path for key in keys() if key.name in names]
    if close:
        return f"; did you mean {close[0]}?"
    section = path.rpartition(".")[0]
    siblings = ", ".join(key.name for key in keys() if key.section == section)
    return f"; {section} has {siblings}" if siblings else _nearest_section(path)


def _nearest_section(name: str) -> str:
    close = difflib.get_close_matches(name, list(sections()), n=1, cutoff=0.5)
    return f"; did you mean [{close[0]}]?" if close else "; there are " + ", ".join(f"[{s}]" for s in sections())


def check_together(config: Config, path: Path | str) -> None:
    """What no key can tell alone; ConfigError, which names the file by `path`."""
    if config.p2p.psk and config.p2p.psk_file:
        raise ConfigError(f"{path}: p2p.psk_file: expected nothing, as p2p.psk is set; the key has one place")
    host, port = host_port(config.http.listen)
    for address in config.p2p.listen:
        p2p_host, p2p_port, _ = multiaddr_tcp(address)
        if port and port == p2p_port and (host == p2p_host or _WILDCARDS & {host, p2p_host}):
            raise ConfigError(f"{path}: http.listen: expected another port than p2p.listen; both have {port}")
