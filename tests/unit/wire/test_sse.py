"""Event streams: cut anywhere, in any dialect, nothing lost, changed or held back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.inference import Usage
from aicn.wire.sse import EventCutter, encode_error_event, iter_data, parse_usage

DONE = b"data: [DONE]\n\n"


def event(**fields: object) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


def finished(reason: str | None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def feed_all(cutter: EventCutter, data: bytes, size: int = 2**16) -> list[bytes]:
    return [cutter.feed(data[i : i + size]) for i in range(0, len(data), size)]


line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20).map(str.encode)
events = st.lists(st.lists(line.map(lambda text: b"data: " + text), min_size=1, max_size=3), max_size=6)


def split_at(data: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


@given(events, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10_000), max_size=12), line)
def test_any_split_gives_the_same_events_as_early_as_they_are_complete(
    lines: list[list[bytes]], end: bytes, places: list[int], rest: bytes
) -> None:
    whole = [end.join(each) + end + end for each in lines]
    data = b"".join(whole) + rest  # the rest is an event that never ends
    cutter, fed, got = EventCutter(), b"", b""
    for piece in split_at(data, places):
        fed += piece
        got += cutter.feed(piece)
        complete = b""
        for each in whole:
            if not fed.startswith(complete + each):
                break
            complete += each
        if not cutter.done:
            assert got == complete
    assert data.startswith(got)


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_nothing_comes_after_done_however_it_is_split(places: list[int]) -> None:
    stream = event(n=1) + event(content="data: [DONE]\n\n") + DONE
    cutter = EventCutter()
    got = b"".join(cutter.feed(piece) for piece in split_at(stream + event(n=2) + DONE, places))
    assert (got, cutter.done) == (stream, True)
    assert cutter.feed(event(n=3)) == b""


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("mark", [b"data: [DONE]", b"data:[DONE]", b"data: [DONE] "])
def test_done_in_every_dialect(mark: bytes, end: bytes) -> None:
    cutter = EventCutter()
    assert b"".join(feed_all(cutter, mark + end, 1)) == mark + end
    assert cutter.done


@pytest.mark.parametrize(
    "data",
    [
        b"data: [DONE]",
        b"data: [DONE]\n",
        b"data: [DONE]x\n\n",
        b'data: "[DONE]"\n\n',
        b": [DONE]\n\n",
        b"id: data: [DONE]\n\n",
    ],
)
def test_what_is_not_done(data: bytes) -> None:
    cutter = EventCutter()
    cutter.feed(data)
    assert not cutter.done


@given(st.integers(1, 200), st.integers(20, 400))
def test_an_event_over_the_limit_is_passed_on_in_parts_and_cutting_goes_on(size: int, limit: int) -> None:
    long = event(content="x" * 1000)
    cutter = EventCutter(limit)
    held, got = 0, b""
    for piece in feed_all(cutter, long + event(n=1) + b"data: unfinished", size):
        got += piece
        held = max(held, len(cutter._held))
    assert got == long + event(n=1)
    assert held <= limit + size


@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_finish_reason_and_usage_are_the_last_named(size: int) -> None:
    counts = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
    stream = (
        event(**finished(None), usage=None)
        + event(choices=[{"delta": {"content": '{"finish_reason": "fooled", "usage": {"total_tokens": 1}}'}}])
        + event(**finished(None), usage={"total_tokens": 4})
        + event(**finished("length"))
        + event(choices=[], usage=counts)
        + DONE
    )
    cutter = EventCutter()
    feed_all(cutter, stream, size)
    assert (cutter.finish_reason, cutter.usage, cutter.done) == ("length", Usage(3, 9, 12), True)


@pytest.mark.parametrize(
    "data",
    [
        b'data: {"finish_reason":"stop","usage":{\n\n',
        b'data: {"choices":{"finish_reason":"stop"}}\n\n',
        b'data: ["finish_reason":"stop"]\n\n',
        b'data: {"choices":[7,{"finish_reason":"stop"}],"usage":{"x"}}\n\n',
        b'data: \xff{"finish_reason":"stop"}\n\n',
        b"data: " + b'{"usage":{"a":' * 5000 + b"\n\n",
    ],
)
def test_what_does_not_parse_passes_unharmed_and_names_nothing(data: bytes) -> None:
    cutter = EventCutter()
    assert cutter.feed(data) == data
    assert (cutter.finish_reason, cutter.usage) == ("", None)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, Usage()),
        ({"prompt_tokens": "5", "completion_tokens": -1, "total_tokens": True}, Usage()),
        ({"prompt_tokens": 2**70, "completion_tokens": 1.5, "total_tokens": 7}, Usage(0, 0, 7)),
        (None, None),
        ([1, 2], None),
    ],
)
def test_counts_of_a_stranger(counts: object, usage: Usage | None) -> None:
    assert parse_usage(counts) == usage


def test_the_data_of_events_for_clients() -> None:
    piece = b": comment\n\nevent: x\r\ndata: one\r\n\r\ndata:two\ndata: more\n\nid: 7\n\n" + DONE
    assert list(iter_data(piece)) == [b"one", b"two\nmore", b"[DONE]"]


def test_an_error_event_is_one_event_that_reads_back() -> None:
    error = {"code": 1017, "message": 'two\n\nlines "and" ümlauts'}
    data = encode_error_event(error)
    assert EventCutter().feed(data) == data
    assert [json.loads(each) for each in iter_data(data)] == [{"error": error}]
