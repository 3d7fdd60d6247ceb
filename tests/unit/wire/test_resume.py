"""Going on with streams that broke off: what the client gets in all is what one worker would have said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aicn.domain.inference import Kind, Usage
from aicn.wire import resume
from aicn.wire.resume import DONE, Differs, Ending, Hopeless, Second, plan, read
from aicn.wire.sse import EventCutter, iter_data

CHAT: dict[str, Any] = {"model": "M", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
DETERMINISTIC = CHAT | {"temperature": 0}
PROMPT_TOKENS = 7


def body(**more: Any) -> bytes:
    return json.dumps(CHAT | more).encode()


def event(
    delta: dict[str, Any] | None = None,
    finish: str | None = None,
    *,
    name: str = "first",
    index: int = 0,
    **more: Any,
) -> bytes:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    value = {
        "id": name,
        "created": len(name),
        "model": "M",
        "object": "chat.completion.chunk",
        "choices": choices,
        **more,
    }
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def usage(answered: int, asked: int = PROMPT_TOKENS) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}}


def stream(
    deltas: Sequence[str], *, name: str = "first", asked: int = PROMPT_TOKENS, finish: str = "stop"
) -> list[bytes]:
    """A whole answer, event by event."""
    return [
        event({"role": "assistant", "content": ""}, name=name),
        *(event({"content": text}, name=name) for text in deltas),
        event({}, finish, name=name),
        event(name=name, **usage(len(deltas), asked)),
        DONE,
    ]


def second(told: Sequence[bytes], request: bytes = body(), **more: Any) -> Second:
    made = plan(request, Kind.CHAT, read(told, Kind.CHAT), **more)
    assert isinstance(made, Second)
    return made


def text_of(data: bytes) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for one in iter_data(data)
        if one != b"[DONE]"
        for choice in json.loads(one)["choices"]
    )


def check_one_answer(data: bytes, text: str, answered: int) -> None:
    """All that a client has got is one answer."""
    events = [json.loads(one) for one in iter_data(data) if one != b"[DONE]"]
    assert text_of(data) == text
    assert {(one["id"], one["created"]) for one in events} == {("first", 5)}
    choices = [choice for one in events for choice in one["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert sum("role" in choice["delta"] for choice in choices) == 1
    assert data.count(b"[DONE]") == 1
    assert data.endswith(DONE)
    cutter = EventCutter()
    cutter.feed(data)
    assert cutter.usage == Usage(PROMPT_TOKENS, answered, PROMPT_TOKENS + answered)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
DELTAS = st.lists(TEXTS, min_size=2, max_size=20)


def cut(text: str, places: Sequence[int]) -> list[str]:
    """`text` in other deltas."""
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def pieces_of(events: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
    """Bytes of the events as they might arrive: in any pieces."""
    data, pieces = b"".join(events), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(DELTAS, st.data())
def test_a_replay_gives_the_undisturbed_text(deltas: list[str], data: st.DataObject) -> None:
    text = "".join(deltas)
    first = stream(deltas)
    told = first[: data.draw(st.integers(1, len(deltas) + 1))]
    again = stream(cut(text, data.draw(st.lists(st.integers(0, 300), max_size=20))), name="second")
    made = second(told, json.dumps(DETERMINISTIC).encode())
    assert made.replays
    assert json.loads(made.body) == DETERMINISTIC
    sizes = data.draw(st.lists(st.integers(1, 300), max_size=5))
    whole = b"".join([*told, *map(made.splice.feed, pieces_of(again, sizes))])
    answered = len(again) - 4  # what the second one counts is the count of the whole
    check_one_answer(whole, text, answered)
    assert (made.splice.finish_reason, made.splice.usage) == (
        "stop",
        Usage(PROMPT_TOKENS, answered, PROMPT_TOKENS + answered),
    )


@given(DELTAS, st.data())
def test_a_continuation_gives_the_undisturbed_text(deltas: list[str], data: st.DataObject) -> None:
    """Also when it breaks a second time: the counts add up, the prompt counts once."""
    at = sorted(data.draw(st.lists(st.integers(1, len(deltas)), min_size=1, max_size=3)))
    beginning = "".join(deltas)[:16]  # a text that begins so again looks like one that is begun anew
    assume(not any("".join(deltas[start:]).startswith(beginning) for start in at))
    # … and what may be the start of one, and breaks off there, is not told: the next goes on from before it
    assume(not any(beginning.startswith("".join(deltas[start:end])) for start, end in pairwise(at)))
    told = stream(deltas)[: at[0] + 1]
    for place, (start, end) in enumerate(zip(at, [*at[1:], len(deltas)], strict=True)):
        made = second(told)
        assert not made.replays
        last = json.loads(made.body)["messages"][-1]
        assert last == {"role": "assistant", "content": "".join(deltas[:start])}
        rest = stream(deltas[start:], name=f"further{place}", asked=PROMPT_TOKENS + start)
        if place < len(at) - 1:
            rest = rest[: 1 + end - start]
        told = [*told, *map(made.splice.feed, rest)]
    check_one_answer(b"".join(told), "".join(deltas), len(deltas))


def test_what_differs_is_not_joined() -> None:
    told = stream(["The ", "sky"])[:3]
    for again in (["The ", "sea"], ["The"], ["A"], []):
        made = second(told, json.dumps(DETERMINISTIC).encode())
        with pytest.raises(Differs):
            made.splice.feed(b"".join(stream(again, name="second")))
    made = second(told, json.dumps(DETERMINISTIC).encode(), replayable=False)
    assert not made.replays


def test_a_server_that_begins_anew_is_taken_for_a_replay() -> None:
    deltas = ["The sky is ", "blue because ", "of the air", "."]
    told = stream(deltas)[:3]
    made = second(told)
    assert not made.replays
    assert made.splice.feed(event({"role": "assistant", "content": "The sky"}, name="second")) == b""
    whole = b"".join([*told, made.splice.feed(b"".join(stream([" is blue because of ", "the air."], name="second")))])
    check_one_answer(whole, "".join(deltas), 2)
    made = second(told)
    with pytest.raises(Differs):
        made.splice.feed(b"".join(stream(["The sky is blue now."])))


def test_tokens_are_counted_as_the_server_counts_them() -> None:
    told = [event({"content": "a"}, timings={"predicted_n": 3}), event({"content": "b"}, timings={"predicted_n": 5})]
    made = second(told, body(max_tokens=12, max_completion_tokens=20))
    assert {name: json.loads(made.body)[name] for name in ("max_tokens", "max_completion_tokens")} == {
        "max_tokens": 7,
        "max_completion_tokens": 15,
    }
    after = made.splice.feed(event({"content": "c"}, timings={"predicted_n": 2}))
    assert read([*told, after], Kind.CHAT).tokens == 7


def test_the_end_needs_nobody() -> None:
    whole = stream(["a", "b"])
    assert plan(body(), Kind.CHAT, read(whole, Kind.CHAT)) == Ending(b"", "stop", Usage(7, 2, 9))
    assert plan(body(), Kind.CHAT, read(whole[:-1], Kind.CHAT)) == Ending(DONE, "stop", Usage(7, 2, 9))
    assert plan(body(), Kind.CHAT, read(whole[:-2], Kind.CHAT)) == Ending(DONE, "stop", None)
    used_up = plan(body(max_tokens=2), Kind.CHAT, read(whole[:3], Kind.CHAT))
    assert isinstance(used_up, Ending)
    assert used_up.finish_reason == "length"
    ended = read([*whole[:3], used_up.data], Kind.CHAT)
    assert (ended.finished, ended.done) == ({0: "length"}, True)


CALL = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}
TOLD = [event({"role": "assistant"}), event({"content": "a"})]


@pytest.mark.parametrize(
    ("more", "told", "why"),
    [
        ({}, [*TOLD, event(CALL)], "tool_calls have begun"),
        ({"tools": [{}]}, TOLD, "tools are offered"),
        ({"n": 2}, TOLD, "several choices"),
        ({"n": 2}, [*TOLD, event({"content": "b"}, index=1)], "several choices"),
        ({"logprobs": True}, TOLD, "logprobs"),
        ({"response_format": {"type": "json_schema"}, "temperature": 0}, TOLD, "schema"),
        ({"grammar": "root ::= x"}, TOLD, "grammar"),
        ({}, [event({"reasoning_content": "hm"})], "reasoning_content"),
        ({}, [*TOLD, b"data: {"], "inside of an event"),
        ({}, [*TOLD, b'data: {"error":{"message":"no"}}\n\n'], "told of an error"),
        ({}, [*TOLD, b"data: <html>\n\n"], "told of an error"),
        ({"messages": [{"role": "assistant", "content": [{}]}]}, TOLD, "the client itself"),
    ],
)
def test_nobody_guesses(more: dict[str, Any], told: list[bytes], why: str) -> None:
    with pytest.raises(Hopeless, match=why):
        plan(body(**more), Kind.CHAT, read(told, Kind.CHAT))


def test_what_has_said_nothing_is_asked_again_as_it_was() -> None:
    request = body(n=2, tools=[{}], logprobs=True, response_format={"type": "json_object"})
    made = second([event({"role": "assistant", "content": None})], request)
    assert made.body == request
    out = made.splice.feed(event({"role": "assistant", "content": ""}, name="second") + event(CALL, name="second"))
    assert [json.loads(one)["choices"][0]["delta"] for one in iter_data(out)] == [CALL]


def test_the_clients_own_beginning_is_prolonged() -> None:
    made = second(TOLD, body(messages=[{"role": "assistant", "content": "Say "}]))
    assert json.loads(made.body)["messages"] == [{"role": "assistant", "content": "Say a"}]


def test_completions() -> None:
    def part(text: str, finish: str | None = None) -> bytes:
        return f"data: {json.dumps({'id': 'x', 'choices': [{'index': 0, 'text': text, 'finish_reason': finish}]})}\n\n".encode()

    told = read([part("a"), part("b")], Kind.COMPLETION)
    made = plan(b'{"prompt":"P","max_tokens":5}', Kind.COMPLETION, told)
    assert isinstance(made, Second)
    assert json.loads(made.body) == {"prompt": "Pab", "max_tokens": 3}
    made = plan(b'{"prompt":["P"],"seed":1}', Kind.COMPLETION, told)
    assert isinstance(made, Second)
    out = made.splice.feed(part("abc") + part("", "stop") + DONE)
    assert (
        out
        == part("c").replace(b": ", b":").replace(b", ", b",").replace(b"data:", b"data: ")
        + out[out.index(b"\n\n") + 2 :]
    )
    assert out.endswith(DONE)
    with pytest.raises(Hopeless, match="single text"):
        plan(b'{"prompt":["P"]}', Kind.COMPLETION, told)
    assert isinstance(plan(b'{"prompt":["P"],"max_tokens":2}', Kind.COMPLETION, told), Ending)


def test_halves_of_a_character() -> None:
    told = read(
        [
            b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n',
        ],
        Kind.CHAT,
    )
    assert told.texts == {"content": "😀"}


NASTY = [
    b'data: {"choices":[{"index":[],"delta":{"role":{},"content":{"a":1}}}],"usage":[],"timings":{"predicted_n":-1}}\n\n',
    b'data: {"choices":{"a":1}}\n\n',
    b'data: {"choices":[1,null,{"delta":[]},{"index":9e99,"delta":{"content":7},"finish_reason":{}}]}\n\n',
    b"data: " + b"[" * 5000 + b"\n\n",
    b"data: [DONE]\n\ndata: {}\n\n",
    b"data: 7\n\n",
]


@given(st.lists(st.sampled_from([*TOLD, *NASTY, event(CALL), DONE, b": x\n\n"]), max_size=6), st.binary(max_size=40))
def test_strangers_break_nothing(events: list[bytes], rubbish: bytes) -> None:
    """Whatever comes: a plan or Hopeless; joined or refused."""
    for told in ([*events], [*events, rubbish]):
        read(told, Kind.CHAT)
        try:
            made = plan(
                json.dumps(DETERMINISTIC | {"n": "x", "max_tokens": "y"}).encode(), Kind.CHAT, read(told, Kind.CHAT)
            )
        except Hopeless:
            continue
        assert isinstance(made, Ending | Second)
    for replays in (True, False):
        splice = resume.Splice(read(TOLD, Kind.CHAT), Kind.CHAT, replays=replays)
        try:
            splice.feed(b"".join([*events, rubbish]))
        except (Differs, ValueError):
            continue
