"""AIComputingNode's configuration file → ours, with a report of what became of each key.

    bytes → JSON → values by path ┬→ RULES (legacy_keys)           → Config
                                  └→ AIProjects (legacy_models)    → endpoints

A pure function: it reads and writes no file, and knows no cryptography, so whether the key fits the peer id is the caller's to check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aicn.config.keys import Key, keys, sections
from aicn.config.legacy_keys import RULES, Outcome, Rule, Verdict
from aicn.config.legacy_models import WrongType, judge_projects
from aicn.config.load import check_together
from aicn.config.save import to_toml
from aicn.config.schema import Config
from aicn.config.values import check
from aicn.domain.registration import Endpoint
from aicn.errors import ConfigError

LARGEST_FILE = 4 * 2**20  # bytes; the Go program's have a few thousand
_MODELS = "AIProjects"
_SECRET = ("Identity.PrivKey",)  # beside those that become a secret of ours
_EXPECTED = {str: "text", bool: "true or false", int: "a whole number", list: "a list of texts"}
_WAY_OUT = "correct it, or take it out of the file"


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one key, in words; never with a secret in them."""

    key: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Translation:
    """All that a Go node's file says, in our terms."""

    config: Config
    private_key: str = field(repr=False)  # base64 as it stands there, not checked; empty: none
    peer_id: str  # what it says the key's is; empty: nothing
    endpoints: tuple[Endpoint, ...]
    report: tuple[Line, ...]


def translate(data: bytes, *, source: str) -> Translation:
    """What `data`, the content of the Go program's file `source`, comes to.

    ConfigError, one line that names the key, what was expected and the way out: it is no such file, or a value cannot be used.
    """
    document = _parse(data, source)
    said, unknown = _flattened(document, source)
    values: dict[str, Any] = {}
    report = []
    for rule in RULES:
        if rule.path in said:
            verdict = _judged(rule, said, source)
            line = Line(rule.path, verdict.outcome, _words(rule, verdict))
            ours = _KEYS.get(rule.becomes)
            if ours is not None and verdict.value is not None:
                values[ours.path] = _checked(ours, rule, verdict, said, source)
                line = Line(rule.path, verdict.outcome, _words(rule, verdict, values[ours.path]))
            report.append(line)
    endpoints, of_models = _models(said.get(_MODELS), source)
    config = Config(
        **{
            name: cls(**{key.name: values[key.path] for key in keys() if key.section == name and key.path in values})
            for name, cls in sections().items()
        }
    )
    check_together(config, source)
    return Translation(
        config,
        said.get("Identity.PrivKey") or "",
        said.get("Identity.PeerID") or "",
        endpoints,
        (*report, *of_models, *(Line(path, "unknown", _UNKNOWN) for path in unknown)),
    )


_KEYS = {key.path: key for key in keys()}
_UNKNOWN = "no key of AIComputingNode; it is not read"


def _parse(data: bytes, source: str) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"))
        json.dumps(document, ensure_ascii=False).encode()  # lone surrogates can be neither written nor shown
    except (ValueError, RecursionError) as error:  # UnicodeError, JSONDecodeError, numbers of thousands of digits
        what = (
            f"line {error.lineno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else "it cannot be read as such"
        )
        raise ConfigError(f"{source}: expected the JSON file of an AIComputingNode; {what}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: expected the JSON file of an AIComputingNode; it holds no object")
    return document


def _flattened(document: dict[str, Any], source: str) -> tuple[dict[str, Any], list[str]]:
    """Values by the path of their rule, and the paths that no rule knows. As Go's decoder does: letter case is ignored, of two
    the later one holds, null is as if absent."""
    said: dict[str, Any] = {}
    unknown = []

    def walk(table: dict[str, Any], parent: str) -> None:
        for name, value in table.items():
            path = _SPELLED.get(f"{parent}{name}".lower(), "")
            if not path:
                unknown.append(f"{parent}{name}")
            elif value is None:
                continue
            elif path not in _TABLES:
                said[path] = value
            elif isinstance(value, dict):
                walk(value, f"{path}.")
            else:
                raise _wrong(source, path, "an object", value)

    walk(document, "")
    return said, unknown


_TABLES = {rule.path[:i] for rule in RULES for i, c in enumerate(rule.path) if c == "."}
_SPELLED = {path.lower(): path for path in (_MODELS, *_TABLES, *(rule.path for rule in RULES))}


def _judged(rule: Rule, said: dict[str, Any], source: str) -> Verdict:
    value = said[rule.path]
    fits = isinstance(value, rule.type) and (rule.type is not int or not isinstance(value, bool))
    if rule.type is list:
        fits = fits and all(isinstance(entry, str) for entry in value)
    if not fits:
        raise _wrong(source, rule.path, _EXPECTED[rule.type], value, secret=_secret(rule))
    try:
        return rule.convert(value, said)
    except ValueError as error:
        raise _wrong(source, rule.path, str(error), value, secret=_secret(rule)) from None


def _checked(ours: Key, rule: Rule, verdict: Verdict, said: dict[str, Any], source: str) -> Any:
    """The verdict's value in the type of our schema."""
    try:
        return check(ours, verdict.value, base=Path())
    except ValueError as error:
        wrong = error.args[0] if ours.is_list and error.args else said[rule.path]
        raise _wrong(source, rule.path, ours.expected, wrong, secret=ours.secret) from None


def _secret(rule: Rule) -> bool:
    return rule.path in _SECRET or (rule.becomes in _KEYS and _KEYS[rule.becomes].secret)


def _words(rule: Rule, verdict: Verdict, value: Any = None) -> str:
    """`p2p.psk (a secret, not shown)`, `p2p.dht_mode = "client": why`, or why it was left out."""
    if verdict.outcome == "left out":
        return verdict.why
    shown = " (a secret, not shown)" if _secret(rule) else f" = {to_toml(value)}"
    return rule.becomes + shown + (f": {verdict.why}" if verdict.why else "")


def _models(projects: object, source: str) -> tuple[tuple[Endpoint, ...], list[Line]]:
    if projects is None:
        return (), []
    try:
        judged = list(judge_projects(projects))
    except WrongType as error:
        raise _wrong(source, error.where, error.expected, error.got) from None
    lines = [
        Line(where, verdict.outcome, _UNKNOWN if verdict.outcome == "unknown" else verdict.why)
        for where, verdict in judged
    ]
    return tuple(dict.fromkeys(_taken(v for _, v in judged))), lines


def _taken(verdicts: Iterator[Verdict]) -> Iterator[Endpoint]:
    return (verdict.value for verdict in verdicts if verdict.value is not None)


def _wrong(source: str, path: str, expected: str, got: object, *, secret: bool = False) -> ConfigError:
    text = "something else (a secret, not shown)" if secret else json.dumps(got, ensure_ascii=False)
    return ConfigError(
        f"{source}: {path}: expected {expected}; got {text if len(text) <= 80 else text[:79] + '…'}; {_WAY_OUT}"
    )
