from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from aicn.domain.inference import Kind, Part
from aicn.errors import InvalidRequest, ModelFailed
from aicn.wire import images as wire
from tests.fakes.png import draw_png

PNG = draw_png(1)
B64 = base64.b64encode(PNG).decode()
SIZE = {"size": "640x480", "width": 640, "height": 480}


def task(kind: Kind = Kind.IMAGE_GENERATION, parts: tuple[Part, ...] = (), **members: Any) -> wire.Task:
    return wire.parse_task(json.dumps({"model": "M", "prompt": "a bird"} | members).encode(), kind, parts)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {}),
        (SIZE, SIZE),
        ({"size": "640x480"}, SIZE),
        ({"width": 640, "height": 480}, SIZE),
        ({"width": 640, "height": 480, "size": "1x1"}, SIZE),
        ({"width": 0, "height": 0, "size": "640x480"}, SIZE),
        ({"width": 0, "height": None, "size": ""}, {}),
        ({"size": "auto"}, {"size": "auto"}),
        ({"size": "16:9"}, {"size": "16:9"}),
    ],
)
def test_the_endpoint_gets_the_size_in_both_dialects(given: dict[str, Any], asked: dict[str, Any]) -> None:
    assert json.loads(task(**given).body) == {"model": "M", "prompt": "a bird", "n": 1, **asked}


def test_what_is_not_ours_goes_on_as_it_was() -> None:
    body = b' { "prompt" : "x\\u00e9", "seed": 1.50e3, "ipfs_node": "", "x": [1,  2], "wallet": "0xAB" } \n'
    assert wire.parse_task(body, Kind.IMAGE_GENERATION).body == (
        b' { "prompt" : "x\\u00e9", "seed": 1.50e3, "x": [1,  2], "wallet": "0xAB" ,"n": 1}'
    )


def test_ours_is_taken_out() -> None:
    found = task(n=3, ipfs_node="http://10.0.0.1:5001", response_format="url")
    assert (found.ipfs_node, found.inline) == ("http://10.0.0.1:5001", "url")
    assert json.loads(found.body) == {"model": "M", "prompt": "a bird", "n": 3}


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"n": "2"}, "n"),
        ({"width": 640}, "height"),
        ({"height": 640}, "width"),
        ({"width": -1, "height": 1}, "width"),
        ({"width": 1, "height": 99999}, "height"),
        ({"width": 1.5, "height": 1}, "width"),
        ({"size": 7}, "size"),
        ({"size": "99999x1"}, "size"),
        ({"size": "x" * 65}, "size"),
        ({"ipfs_node": 7}, "ipfs_node"),
        ({"ipfs_node": "x" * 3000}, "ipfs_node"),
        ({"response_format": "png"}, "response_format"),
        ({"response_format": ["url"]}, "response_format"),
    ],
)
def test_a_wrong_field_is_named(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        task(**members)


def test_an_edit_needs_its_image() -> None:
    with pytest.raises(InvalidRequest, match=r"^image: "):
        task(Kind.IMAGE_EDIT)
    with pytest.raises(InvalidRequest, match=r"^image: "):
        task(Kind.IMAGE_EDIT, (Part("mask", "m.png", "image/png", PNG),))
    task(Kind.IMAGE_EDIT, image="https://example.com/a.png")
    task(Kind.IMAGE_EDIT, (Part("image[]", "a.png", "image/png", PNG),))


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"url": "https://x.test/1.png"}, "https://x.test/1.png"),
        ({"url": "/srv/1.png", "b64_json": None, "seed": 1}, "/srv/1.png"),
        ({"b64_json": B64}, PNG),
        ({"b64_json": B64, "url": ""}, PNG),
        ({"b64_json": B64.rstrip("=")}, PNG),
        ({"b64_json": "\n".join(B64[i : i + 76] for i in range(0, len(B64), 76))}, PNG),
        ({"b64_json": f"data:image/png;base64,{B64}"}, PNG),
        ({"url": f"data:image/png;charset=x;base64,{B64}"}, PNG),
        ({"url": "DATA:,a%20b"}, b"a b"),
    ],
)
def test_both_dialects_are_read(item: dict[str, Any], found: bytes | str) -> None:
    body = json.dumps({"code": 0, "created": 5, "data": [item], "usage": {}}).encode()
    assert wire.decode_answer(body, source="it") == wire.Answered((found,), 5)


def test_an_answer_without_code_or_time_is_good() -> None:
    answered = wire.decode_answer(
        b'{"data": [{"url": "http://x"}, {"url": "http://y"}], "created": "now"}', source="it"
    )
    assert answered.images == ("http://x", "http://y")
    assert answered.created > 1_700_000_000


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>", "no JSON"),
        (b"[]", "no JSON"),
        (b"{}", "without images"),
        (b'{"data": []}', "without images"),
        (b'{"data": {}, "error": {"message": "out of memory"}}', "without images: out of memory"),
        (b'{"code": 17, "message": "no GPU", "data": [{"url": "http://x"}]}', "code 17: no GPU"),
        (b'{"data": ["http://x"]}', r"data\[0\]"),
        (b'{"data": [{"url": "http://x"}, {"url": 1}]}', r"data\[1\]"),
        (b'{"data": [{"b64_json": "\xc3\xa9\xc3\xa9"}]}', "base64"),
        (b'{"data": [{"b64_json": "a"}]}', "base64"),
        (b'{"data": [{"url": "data:image/png"}]}', "data: URL"),
        (b'{"data": [' + b",".join([b'{"url": "http://x"}'] * 11) + b"]}", "11 images"),
        (b'{"data": [{"url": "http://' + b"x" * 9000 + b'"}]}', "characters"),
    ],
)
def test_what_is_no_answer_is_said(body: bytes, what: str) -> None:
    with pytest.raises(ModelFailed, match=f"^it.*{what}"):
        wire.decode_answer(body, source="it")


def test_answers_to_the_client() -> None:
    stored = wire.encode_stored("http://122.99.183.54:4002", [("Qm1", "knhfkmpilha9l5f2.png")])
    assert json.loads(stored) == {
        "ipfs_node": "http://122.99.183.54:4002",
        "choices": [{"cid": "Qm1", "image_name": "knhfkmpilha9l5f2.png"}],
    }
    images = [(PNG, "image/png"), (b"x", "image/webp")]
    assert json.loads(wire.encode_inline(images, "b64_json", 7)) == {
        "created": 7,
        "choices": [{"b64_json": B64}, {"b64_json": "eA=="}],
    }
    assert json.loads(wire.encode_inline(images, "url", 7))["choices"] == [
        {"url": f"data:image/png;base64,{B64}"},
        {"url": "data:image/webp;base64,eA=="},
    ]
    for good in (stored, wire.encode_inline(images, "url", 7)):
        wire.check_answer(good, source="node X")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": ["x"]}', b'{"choices": {}}'])
def test_what_a_worker_does_not_answer_is_no_answer(body: bytes) -> None:
    with pytest.raises(ModelFailed, match=r"^node X "):
        wire.check_answer(body, source="node X")
