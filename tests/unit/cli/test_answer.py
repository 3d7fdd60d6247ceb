"""Answer: server-sent events however they are cut, and every way a stream can end badly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.cli.answer import Answer, events
from aicn.cli.client import ApiError

DONE = b"data: [DONE]\n\n"


def delta(text: str, **more: object) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}, **more}]}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.data())
def test_the_text_arrives_whole_however_it_is_cut(pieces: list[str], data: st.DataObject) -> None:
    stream = b"".join(delta(piece) for piece in pieces) + DONE
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    answer = Answer()
    assert list(answer.read(chunks)) == [piece for piece in pieces if piece]
    assert answer.text == "".join(pieces)


def test_events_with_names_comments_crlf_and_several_data_lines() -> None:
    stream = (
        b": hello\r\n\r\nevent: a\r\nid: 3\r\ndata: 1\r\ndata:2\r\n\r\ndata: 3\n\nevent: alone\n\ndata: 4\n\ndata: cut"
    )
    assert list(events([stream])) == [("a", "1\n2"), ("message", "3"), ("message", "4")]


def test_a_line_separator_inside_json_is_no_line_end() -> None:
    assert list(Answer().read([delta("a\u2028b\u0085c"), DONE])) == ["a\u2028b\u0085c"]


def test_what_is_told_afterwards() -> None:
    answer = Answer(asked_at=0.0)
    stream = [delta("a"), delta("b"), delta("", finish_reason="length"), DONE]
    list(answer.read(stream))
    assert answer.tokens == 2
    assert answer.finish_reason == "length"
    answer.first_at, answer.last_at = 0.25, 0.75
    assert answer.summary() == "2 tokens, first after 250 ms, 2.0 tokens/s, cut off at the length limit"


def test_the_endpoints_own_count_wins() -> None:
    answer = Answer()
    usage = b'data: {"choices": [], "usage": {"completion_tokens": 17}}\n\n'
    list(answer.read([delta("several tokens at once"), usage, DONE]))
    assert answer.tokens == 17


def test_an_empty_answer_is_an_answer() -> None:
    answer = Answer()
    assert list(answer.read([DONE])) == []
    assert answer.summary() == "0 tokens"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (b"", "the connection ended before it was complete"),
        (delta("x")[:-9], "the connection ended before it was complete"),
        (b'event: error\ndata: {"code": 1017, "message": "out of memory"}\n\n', r"out of memory \(code 1017\)"),
        (b'data: {"error": {"message": "busy", "code": "b"}}\n\n', r"busy \(code b\)"),
        (b'data: {"error": "plain"}\n\n', "plain"),
        (b'data: {"code": 1004, "message": "too slow"}\n\n', r"too slow \(code 1004\)"),
        (b"data: {\n\n", "no JSON object"),
        (b"data: [1]\n\n", "no JSON object"),
    ],
)
def test_an_answer_that_breaks_off_is_an_error_after_what_came(end: bytes, words: str) -> None:
    answer = Answer()
    with pytest.raises(ApiError, match=words):
        list(answer.read([delta("so far"), end]))
    assert answer.text == "so far"


@pytest.mark.parametrize("event", [{}, {"choices": None}, {"choices": [1]}, {"choices": [{"delta": 1}]}, {"usage": 1}])
def test_events_that_hold_no_text_are_passed_over(event: object) -> None:
    assert list(Answer().read([b"data: " + json.dumps(event).encode() + b"\n\n", DONE])) == []
