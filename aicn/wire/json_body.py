"""Taking members out of a JSON object, or changing them, without touching the rest of it.

A client's body travels to the model as the bytes it is: re-encoding it would change number texts, escapes and key order, and
cost more than everything else that the gateway does. So the object is read once by the C scanner of `json`, which gives
each top-level value and where it ends, and the named members are cut out of the original text, or replaced there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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


class JsonObject:
    """A JSON object: its text as it was written, and what its top-level members are."""

    def __init__(self, body: bytes) -> None:
        """MalformedBody when `body` is not UTF-8 JSON (with the position) or nested more than DEEPEST levels deep (Python, and many a
        model's server, would fail at a thousand). InvalidRequest when it is JSON but no object, or names a top-level member twice."""
        self.body = body
        self._text, self._members = _read(body)
        self.values = {member.name: member.value for member in self._members}
        if body.count(b"[") + body.count(b"{") > DEEPEST and _deeper_than(
            DEEPEST, self.values
        ):  # counting: 0.2 µs per KiB
            raise MalformedBody(_TOO_DEEP)
        if len(self.values) < len(self._members):
            raise InvalidRequest(f"{_first_twice(self._members)[:64]!r}: given twice")

    def without(self, *names: str) -> bytes:
        """The text less the members `names`; what stays is byte for byte as it was, white space included."""
        if self.values.keys().isdisjoint(names):
            return self.body
        return _without(self._text, self._members, names).encode()

    def changed(self, changes: Mapping[str, object]) -> bytes:
        """The text with other values for some members, which stand where they stood, or at the end; all else is as it was."""
        if not changes:
            return self.body
        text, pieces, last_end = self._text, [], 0
        for member in self._members:
            if member.name in changes:
                pieces += [text[last_end : member.start], _written(member.name, changes[member.name])]
                last_end = member.end
        new = [_written(name, value) for name, value in changes.items() if name not in self.values]
        if new:
            end = self._members[-1].end if self._members else text.index("{") + 1
            pieces += [text[last_end:end], "," if self._members else "", ",".join(new)]
            last_end = end
        pieces.append(text[last_end:])
        return "".join(pieces).encode()


def take(body: bytes, *names: str) -> tuple[dict[str, Any], bytes]:
    """The parsed top-level members of the object `body`, and `body` with the members `names` cut out. Errors as JsonObject's."""
    parsed = JsonObject(body)
    return parsed.values, parsed.without(*names)


def _read(body: bytes) -> tuple[str, list[_Member]]:
    try:
        text = body.decode()
        return text, list(_members(text))
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8 at byte {error.start}") from None
    except JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise MalformedBody(_TOO_DEEP) from None
    except ValueError as error:  # NaN, Infinity; an integer of over 4300 digits
        raise MalformedBody(f"the body is not usable JSON: {error}") from None


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


def _written(name: str, value: object) -> str:
    return f"{json.dumps(name)}:{json.dumps(value)}"


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
