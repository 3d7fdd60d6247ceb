"""Taking members out of a JSON object without touching the rest of it.

A client's body travels to the model as the bytes it is: re-encoding it would change number texts, escapes and key order, and
cost more than everything else that the gateway does. So the object is read once by the C scanner of `json`, which gives
each top-level value and where it ends, and the named members are cut out of the original text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C scanner, not in the stubs
from typing import Any, NamedTuple, NoReturn

from aicn.errors import InvalidRequest, MalformedBody


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = JSONDecoder(parse_constant=_refuse_constant)  # NaN and Infinity, which Python would accept
_SCAN = _DECODER.scan_once  # type: ignore[attr-defined]
_SPACE = re.compile(r"[ \t\n\r]*").match  # RFC 8259 section 2; Python's own `\s` is wider
DEEPEST = 64  # levels of objects and lists, the body itself the first: far more than the schema of any tool, and no parser minds them
_CONTAINERS = (dict, list)
_TOO_DEEP = f"the body is not usable JSON: nested more than {DEEPEST} levels deep"


class _Member(NamedTuple):
    name: str
    value: Any
    start: int  # of the name's opening quote
    end: int  # one past the value's last character


def take(body: bytes, *names: str) -> tuple[dict[str, Any], bytes]:
    """The parsed top-level members of the object `body`, and `body` with the members `names` cut out.

    What stays is byte for byte as it was, white space included. MalformedBody when `body` is not UTF-8 JSON (with the position) or
    nested more than DEEPEST levels deep (Python, and many a model's server, would fail at a thousand). InvalidRequest when it is
    JSON but no object, or names a top-level member twice.
    """
    try:
        text = body.decode()
        members = list(_members(text))
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 at byte {error.start}") from None
    except JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise MalformedBody(_TOO_DEEP) from None
    except ValueError as error:  # NaN, Infinity; an integer of over 4300 digits
        raise MalformedBody(f"the body is not usable JSON: {error}") from None
    values = {member.name: member.value for member in members}
    if body.count(b"[") + body.count(b"{") > DEEPEST and _deeper_than(DEEPEST, values):  # counting costs 0.2 µs per KiB
        raise MalformedBody(_TOO_DEEP)
    if len(values) < len(members):
        raise InvalidRequest(f"{_first_twice(members)[:64]!r}: given twice")
    if values.keys().isdisjoint(names):
        return values, body
    return values, _without(text, members, names).encode()


def _members(text: str) -> Iterator[_Member]:
    at = _space(text, 0)
    if not text.startswith("{", at):
        _DECODER.decode(text)  # a clearer error when it is not JSON at all
        raise InvalidRequest("the body must be a JSON object")
    at = _space(text, at + 1)
    if text.startswith("}", at):
        _only_space(text, at + 1)
        return
    while True:
        if not text.startswith('"', at):
            raise JSONDecodeError("a member name in double quotes is expected", text, at)
        name, end = scanstring(text, at + 1, True)
        end = _space(text, end)
        if not text.startswith(":", end):
            raise JSONDecodeError("':' is expected", text, end)
        try:
            value, end = _SCAN(text, _space(text, end + 1))
        except StopIteration as error:
            raise JSONDecodeError("a value is expected", text, error.value) from None
        yield _Member(name, value, at, end)
        at = _space(text, end)
        if text.startswith("}", at):
            _only_space(text, at + 1)
            return
        if not text.startswith(",", at):
            raise JSONDecodeError("',' or '}' is expected", text, at)
        at = _space(text, at + 1)


def _space(text: str, at: int) -> int:
    match = _SPACE(text, at)
    assert match is not None  # the pattern matches the empty string
    return match.end()


def _only_space(text: str, at: int) -> None:
    if (end := _space(text, at)) < len(text):
        raise JSONDecodeError("nothing more is expected", text, end)


def _without(text: str, members: list[_Member], names: tuple[str, ...]) -> str:
    """`text` without the members `names`; each kept one but the first keeps the comma and the space before it."""
    last_end = members[0].start
    pieces = [text[:last_end]]
    for member in members:
        if member.name not in names:
            if len(pieces) > 1:
                pieces.append(text[last_end : member.start])
            pieces.append(text[member.start : member.end])
        last_end = member.end
    pieces.append(text[last_end:])
    return "".join(pieces)


def _deeper_than(levels: int, value: dict[str, Any]) -> bool:
    """Whether containers are nested in `value` beyond `levels`, itself being the first."""
    containers: list[Any] = [value]
    for _ in range(levels):
        containers = [
            inner
            for outer in containers
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
    return bool(containers)


def _first_twice(members: list[_Member]) -> str:
    seen: set[str] = set()
    return next(m.name for m in members if m.name in seen or seen.add(m.name))  # type: ignore[func-returns-value]
