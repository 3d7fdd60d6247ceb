"""Bodies of later nodes (v0.2.x) and those that are not quite right: read as far as they can be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.registration import Project
from aicn.errors import ProtocolViolation
from aicn.wire.legacy import bodies, chat
from aicn.wire.pb import legacy_pb2 as pb


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes((number & 127 | 128,)), number >> 7
    return out + bytes((number,))


def held(field: int, data: bytes) -> bytes:
    """A field with bytes, by hand: not every schema of theirs is one of ours."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def question(*contents: bytes, more: bytes = b"") -> bytes:
    messages = b"".join(held(3, held(1, b"user") + held(2, content)) for content in contents)
    return held(1, held(1, b"P") + held(2, b"M") + messages + more + held(16, b""))


def contents(plain: bytes) -> list[object]:
    return [one["content"] for one in json.loads(chat.decode_chat(plain).body)["messages"]]


TEMPERATURE = b"\x35\x00\x00\x00\x3f"  # field 6, 0.5
IMAGE = {"type": "image_url", "image_url": {"url": "http://x/1.png", "detail": "low"}}


def test_models_as_messages() -> None:
    later = [
        held(1, b"model-a") + held(2, b"http://h/x") + b"\x18\x01\x20\x05" + held(5, b"Qm"),
        held(1, "Grüße".encode()),
        held(1, b"x" * 100),  # whose length is a letter
        b"plain",
        held(2, b"without a name"),
        held(1, b"name\nin two lines"),
        b"\xff\xfe",
        b"",
        b"x" * 129,
    ]
    project = held(1, b"P") + b"".join(held(2, entry) for entry in later)
    plain = held(2, held(1, project) + b"\x10\xff\x01")
    assert bodies.decode_projects(plain)[0] == (Project("P", ("model-a", "Grüße", "x" * 100, "plain")),)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=100), st.integers(0, 2**31 - 1))
def test_a_model_as_a_message(name: str, idle: int) -> None:
    entry = pb.AIModel(model=name, api="http://h", type=1, idle=idle).SerializeToString()
    plain = held(2, held(1, held(1, b"P") + held(2, entry)))
    assert bodies.decode_projects(plain)[0] == (Project("P", (name,)),)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), min_size=1, max_size=4))
def test_contents_as_json(texts: list[str]) -> None:
    sent = [json.dumps(text).encode() for text in texts]
    assert contents(question(*sent, more=TEMPERATURE)) == texts
    assert contents(question(*sent)) == [one.decode() for one in sent]  # may be what was meant


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=100), min_size=1, max_size=4))
def test_texts_stay_as_they_are(texts: list[str]) -> None:
    assert contents(question(*(text.encode() for text in texts))) == texts


def test_parts() -> None:
    parts = [{"type": "text", "text": "What is this?"}, IMAGE]
    sent = json.dumps(parts).encode()
    assert contents(question(sent)) == [parts]
    texts = json.dumps(parts[:1]).encode()
    assert contents(question(texts)) == [texts.decode()]  # may be what was meant
    assert contents(question(texts, more=TEMPERATURE)) == [parts[:1]]
    assert contents(question(b'"Be brief."', sent)) == ["Be brief.", parts]
    assert contents(question(b"Be brief.", sent)) == ["Be brief.", sent.decode()]  # one is no JSON, so none is


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[1, 2]",
        '[{"a": 1}]',
        '[{"type": 1}]',
        '[{"type": "text"}]',
        '[{"type": "text", "text": [1]}]',
        '"a" and "b"',
        '"',
        "[" * 2000 + "]" * 2000,
        '["x",NaN]',
        '{"type": "text"}',
        '"",  "x": ""',
        '"a","content":"b"',
    ],
)
def test_what_is_no_content_as_json(text: str) -> None:
    assert contents(question(text.encode(), more=TEMPERATURE)) == [text]


def test_a_text_that_is_no_utf_8() -> None:
    assert contents(question(b"caf\xe9 \xf0\x9f")) == ["caf\ufffd \ufffd"]
    answered = pb.ChatCompletionBody(res={"choices": [{"message": {"role": "assistant", "content": b"\xff"}}]})
    body, _, _ = chat.decode_chat_answer(answered.SerializeToString())
    assert json.loads(body)["choices"][0]["message"]["content"] == "\ufffd"
    role = held(1, held(1, b"P") + held(2, b"M") + held(3, held(1, b"\xff")))
    with pytest.raises(ProtocolViolation):  # their protobuf does not read it either
        chat.decode_chat(role)


def test_later_answers() -> None:
    """A chat's has a name and a kind more."""
    choice = held(2, held(1, b"assistant") + held(2, b"Hi")) + held(3, b"stop")
    plain = held(2, b"\x08\x07" + held(2, choice) + held(3, b"\x18\x05") + held(4, b"chatcmpl-1") + held(5, b"chat"))
    body, finish, usage = chat.decode_chat_answer(plain)
    assert json.loads(body)["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}
    assert (finish, usage.total_tokens) == ("stop", 5)


def test_later_images() -> None:
    """A question's wallet is where the address of a storage node was, an answer's time as well: neither is taken for an address."""
    wallet = held(1, b"0x1a") + held(2, b"0x2b")
    asked = held(
        1, held(1, b"P") + held(2, b"M") + held(3, b"a cat") + b"\x20\x01" + held(8, b"url") + held(16, wallet)
    )
    with pytest.raises(ProtocolViolation, match=r"v0\.2"):
        chat.decode_image(asked)
    plain = held(2, b"\x08\x07" + held(2, held(1, b"http://x/1.png") + held(2, b"") + held(3, b"a black cat")))
    assert json.loads(chat.decode_image_answer(plain)) == {
        "ipfs_node": "",
        "choices": [{"cid": "http://x/1.png", "image_name": ""}],
    }


@given(st.integers(8, 15) | st.integers(20, 500), st.binary(max_size=40))
def test_fields_that_nobody_knows(field: int, data: bytes) -> None:
    assert contents(question(b"Hi", more=held(field, data))) == ["Hi"]
