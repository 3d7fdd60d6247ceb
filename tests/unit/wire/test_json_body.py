"""Members are taken out of a JSON object, and nothing else of it changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.errors import InvalidRequest, MalformedBody
from aicn.wire.json_body import DEEPEST, JsonObject, take

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)
names = st.sampled_from(["node_id", "project", "model", "messages", "ключ", 'a"b', ""]) | st.text(max_size=5)
objects = st.dictionaries(names, values, max_size=8)
blanks = st.text(alphabet=" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, object], bytes]:
    """An object, and one of the many ways to write it."""
    members = draw(objects)
    ascii_only = draw(st.booleans())

    def dump(value: object) -> str:
        return json.dumps(value, ensure_ascii=ascii_only)

    inner = ",".join(
        draw(blanks) + dump(name) + draw(blanks) + ":" + draw(blanks) + dump(value) + draw(blanks)
        for name, value in members.items()
    )
    text = draw(blanks) + "{" + inner + (draw(blanks) if not members else "") + "}" + draw(blanks)
    return members, text.encode(errors="surrogatepass") if ascii_only else text.encode(errors="replace")


@given(written(), st.lists(names, max_size=3))
def test_the_named_members_go_and_all_else_stays(case: tuple[dict[str, object], bytes], out: list[str]) -> None:
    _, body = case
    whole = json.loads(body)
    members, rest = take(body, *out)
    assert members == whole
    assert json.loads(rest) == {name: value for name, value in whole.items() if name not in out}
    assert take(rest, *out) == (json.loads(rest), rest)  # nothing left to take: the same bytes
    if not set(out) & set(whole):
        assert rest is body


@given(st.binary(max_size=40))
def test_junk_is_refused_and_never_crashes(body: bytes) -> None:
    try:
        members, _ = take(body, "node_id")
    except (MalformedBody, InvalidRequest):
        return
    assert members == json.loads(body)


@pytest.mark.parametrize(
    ("body", "out", "rest"),
    [
        (b'{"a":1}', ("a",), b"{}"),
        (b'{"a":1,"b":2}', ("a",), b'{"b":2}'),
        (b'{"a":1,"b":2}', ("b",), b'{"a":1}'),
        (b'{"a":1 , "b":2 , "c":3}', ("b",), b'{"a":1 , "c":3}'),
        (b'{"a":1, "b":2, "c":3}', ("a", "c"), b'{"b":2}'),
        (b'{"a":1, "b":2, "c":3, "d":4}', ("a", "b"), b'{"c":3, "d":4}'),
        (b' {\n  "a": 1.50,\n  "b": "\\u00e9\\/" \n}\n', ("x",), b' {\n  "a": 1.50,\n  "b": "\\u00e9\\/" \n}\n'),
        (b' {\n  "a": 1.50,\n  "b": "\\u00e9\\/" \n}\n', ("a",), b' {\n  "b": "\\u00e9\\/" \n}\n'),
        (b'{"n\\u006fde_id":"x","t":1e400}', ("node_id",), b'{"t":1e400}'),
        ('{"é":"日本","b":"🌟"}'.encode(), ("é",), '{"b":"🌟"}'.encode()),
        (b"{ }", ("a",), b"{ }"),
    ],
)
def test_cut(body: bytes, out: tuple[str, ...], rest: bytes) -> None:
    assert take(body, *out)[1] == rest


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "character 0"),
        (b"hello", "character 0"),
        (b'{"a":1', "character 6"),
        (b'{"a":1}x', "character 7: nothing more"),
        (b'{"a":1,}', "character 7"),
        (b'{"a" 1}', "character 5: ':'"),
        (b'{"a":}', "character 5: a value"),
        (b'{"a":1 "b":2}', "character 7"),
        (b"{a:1}", "character 1"),
        (b'{"a', "character 1"),
        (b'{"a":"\x01"}', "control character"),
        (b'{"a":[1,2}', "character 9"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":[-Infinity]}', "-Infinity"),
        (b'{"a":\xff}', "UTF-8 at byte 5"),
        (b'\xef\xbb\xbf{"a":1}', "character 0"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "more than 64 levels"),
        (b'{"a":' + b'{"b":' * 200_000 + b"1" + b"}" * 200_001, "more than 64 levels"),
        (b"[" * 200_000, "more than 64 levels"),
        (b'{"a":' + b"9" * 5000 + b"}", "4300 digits"),
    ],
)
def test_not_json(body: bytes, says: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        take(body, "a")
    assert says.lower() in caught.value.message.lower()


@pytest.mark.parametrize(
    ("opening", "closing", "beside"),  # `beside`: levels that what stands beside the next opening adds at the innermost
    [("[", "]", 0), ('{"b":', "}", 0), ('[[],{},"[",', "]", 1), ('{"b":[{}],"c":', "}", 2)],
)
def test_depth(opening: str, closing: str, beside: int) -> None:
    def body(levels: int) -> bytes:
        return ('{"a":' + opening * (levels - 1) + "0" + closing * (levels - 1) + "}").encode()

    most = DEEPEST - beside
    assert json.loads(body(most)) == take(body(most))[0]
    for levels in (most + 1, 2 * DEEPEST, 900, 100_000):
        with pytest.raises(MalformedBody, match="nested more than 64 levels deep"):
            take(body(levels))


def test_many_brackets_are_not_depth() -> None:
    body = json.dumps({"a": [{"b": "[" * 100}] * 1000, "c": "{" * 1000}).encode()
    assert take(body)[0] == json.loads(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b' "text" ', b"1", b"true"])
def test_not_an_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        take(body)


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"node_id":"x","n\\u006fde_id":"y"}'])
def test_a_member_given_twice(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="given twice"):
        take(body, "node_id")


@given(written(), st.dictionaries(names, values, max_size=3))
def test_members_change_where_they_stand(case: tuple[dict[str, object], bytes], changes: dict[str, object]) -> None:
    _, body = case
    whole = json.loads(body)
    parsed = JsonObject(body)
    made = parsed.changed(changes)
    assert json.loads(made) == whole | changes
    assert list(json.loads(made)) == [*whole, *(name for name in changes if name not in whole)]
    if not changes:
        assert made is body


def test_what_is_not_changed_stays_byte_for_byte() -> None:
    body = b' { "model" : "P/M",\n"n":1.50e1, "s":"\\u00e9", "x":{"model":"P/M"} } \n'
    parsed = JsonObject(body)
    assert parsed.changed({"model": "M"}) == body.replace(b'"model" : "P/M"', b'"model":"M"')
    assert parsed.changed({"new": [1]}) == body.replace(b'"P/M"} }', b'"P/M"},"new":[1] }')
    assert JsonObject(b" { } ").changed({"a": "é"}) == b' {"a":"\\u00e9" } '
