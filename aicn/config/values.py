"""Is this a value for that key? One small validator per kind; none needs libp2p, so that `aicn config check` is quick."""

from __future__ import annotations

import ipaddress
import math
import re
import tomllib
from pathlib import Path
from typing import Any

from aicn.config.keys import Key
from aicn.domain.ids import parse_peer_id
from aicn.domain.registration import check_url
from aicn.errors import InvalidRequest

_HOSTNAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HEX32 = re.compile(r"[0-9a-fA-F]{64}")
_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LONGEST_NAME = 128  # characters; the wire formats take 256 bytes


def from_text(key: Key, text: str) -> Any:
    """The text of an environment variable as the raw value that `check` takes; ValueError when it cannot be one."""
    text = text.strip()
    if key.is_table or (key.is_list and text.startswith("[")):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ValueError(text) from error
    if key.is_list:
        return [part.strip() for part in text.split(",") if part.strip()]
    if key.type is bool:
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if key.type is int:
        return int(text)
    if key.type is float:
        return float(text)
    return text


def check(key: Key, value: Any, *, base: Path) -> Any:
    """`value` (as TOML gives it) in the type of the schema, relative paths made absolute from `base`.

    ValueError holding the offending part when it is not what `key.expected` says.
    """
    if key.choices:
        _demand(isinstance(value, str) and value in key.choices, value)
        return value
    if key.is_list:
        _demand(isinstance(value, list), value)
        return tuple(dict.fromkeys(_text(key, entry) for entry in value))  # said twice is meant once
    if key.is_table:
        _demand(isinstance(value, dict), value)
        return {name: _whole(key, entry) for name, entry in value.items()}
    if key.type is bool:
        _demand(isinstance(value, bool), value)
        return value
    if key.type is int:
        return _whole(key, value)
    if key.type is float:
        _demand(isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value), value)
        return _within(key, float(value))
    if key.type is Path:
        text = _text(key, value)
        _demand(text.strip() != "", value)
        return _absolute(text, base)
    text = _text(key, value)
    return str(_absolute(text, base)) if key.kind in ("file", "folder") and text else text


def multiaddr_tcp(text: str) -> tuple[str, int, str | None]:
    """(host, port, peer id or None) of /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/ID]; ValueError for all else."""
    parts = text.split("/")
    _demand(len(parts) in (5, 7) and parts[0] == "" and parts[3] == "tcp", text)
    family, host = parts[1], parts[2]
    if family == "ip4":
        ipaddress.IPv4Address(host)
    elif family == "ip6":
        ipaddress.IPv6Address(host)
    else:
        _demand(family in ("dns", "dns4", "dns6") and _HOSTNAME.fullmatch(host) is not None, text)
    if len(parts) == 5:
        return host, _port(parts[4]), None
    _demand(parts[5] == "p2p", text)
    try:
        return host, _port(parts[4]), parse_peer_id(parts[6])
    except InvalidRequest as error:
        raise ValueError(text) from error


def host_port(text: str) -> tuple[str, int]:
    """(host, port) of `127.0.0.1:6000`, `localhost:6000` or `[::1]:6000`; ValueError for all else."""
    host, colon, port = text.rpartition(":")
    _demand(bool(colon), text)
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), _port(port)
    if re.fullmatch(r"[0-9.]+", host):
        return str(ipaddress.IPv4Address(host)), _port(port)
    _demand(_HOSTNAME.fullmatch(host) is not None, text)
    return host, _port(port)


def _text(key: Key, value: Any) -> str:
    """One text, checked as its kind demands."""
    _demand(isinstance(value, str) and "\0" not in value, value)
    text: str = value
    match key.kind:
        case "listen_multiaddr":
            _demand(text.startswith(("/ip4/", "/ip6/")) and multiaddr_tcp(text)[2] is None, text)
        case "multiaddr":
            _demand(multiaddr_tcp(text)[1] > 0, text)
        case "peer_multiaddr":
            _, port, peer = multiaddr_tcp(text)
            _demand(port > 0 and peer is not None, text)
        case "hex32":
            _demand(text == "" or _HEX32.fullmatch(text) is not None, text)
            return text.lower()
        case "hostport":
            host_port(text)
        case "protocol_prefix":
            _demand(_PREFIX.fullmatch(text) is not None and len(text) <= _LONGEST_NAME, text)
        case "name":
            _demand(0 < len(text) <= _LONGEST_NAME and text.isprintable() and text == text.strip(), text)
        case "url":
            _demand(text == "" or _is_url(text), text)
        case "file":
            _demand(text == "" or _names_a_file(text), text)
    return text


def _whole(key: Key, value: Any) -> int:
    _demand(isinstance(value, int) and not isinstance(value, bool), value)
    return int(_within(key, value))


def _within(key: Key, value: float) -> float:
    _demand((key.least is None or value >= key.least) and (key.most is None or value <= key.most), value)
    return value


def _port(text: str) -> int:
    _demand(text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535, text)
    return int(text)


def _is_url(text: str) -> bool:
    try:
        check_url(text)
    except InvalidRequest:
        return False
    return True


def _names_a_file(text: str) -> bool:
    """Not a directory by its looks; whether the file is there is for those who open it."""
    return not text.endswith("/") and Path(text).name not in ("", ".", "..")


def _absolute(text: str, base: Path) -> Path:
    try:
        return base / Path(text).expanduser()
    except RuntimeError as error:  # "~somebody" without a home
        raise ValueError(text) from error


def _demand(fits: bool, value: Any) -> None:
    if not fits:
        raise ValueError(value)
