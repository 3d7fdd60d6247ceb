"""What is read off a body without parsing it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.services.prompts import answer_tokens, beginning, prompt_tokens

MESSAGE = st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=50)})
SYSTEM = st.fixed_dictionaries({"role": st.just("system"), "content": st.text(max_size=50)})


@given(SYSTEM, st.lists(MESSAGE, min_size=1, max_size=4), st.lists(MESSAGE, max_size=4), st.booleans())
def test_all_turns_of_a_conversation_begin_alike(
    system: dict[str, str], said: list[dict[str, str]], more: list[dict[str, str]], role_last: bool
) -> None:
    turns = [system, *said, *more]
    if role_last:
        turns = [{"content": one["content"], "role": one["role"]} for one in turns]
    short = json.dumps({"model": "M", "messages": turns[: 1 + len(said)], "stream": True}).encode()
    long = json.dumps({"model": "M", "messages": turns, "stream": True}).encode()
    assert beginning(short) == beginning(long)


@pytest.mark.parametrize("changed", [{"role": "user", "content": "Bye"}, {"role": "user", "content": 'Hello"}'}])
def test_others_begin_otherwise(changed: dict[str, str]) -> None:
    first = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
    assert beginning(first) != beginning(json.dumps({"messages": [changed]}).encode())


def test_only_the_beginning_is_looked_at() -> None:
    start = b'{"messages":[{"role":"user","content":"' + b"x" * 5000
    assert beginning(start + b'"}]}') == beginning(start + b' and more"}]}')
    assert beginning(b'{"input": "Hello"}') == beginning(b"") == 0


@pytest.mark.parametrize(
    ("body", "least", "most"),
    [
        (b"{}", 0, 0),
        (b'{"max_tokens": 500}', 500, 510),
        (b'{"max_completion_tokens":7,"max_tokens":500}', 500, 510),
        (b'{"max_tokens": "no", "max_completion_tokens": null}', 0, 10),
        (b'{"max_tokens": 99999999999999999999}', 0, 10),
        (json.dumps({"messages": [{"role": "user", "content": 'they said "max_tokens": 5000'}]}).encode(), 0, 20),
        (json.dumps({"prompt": "слово " * 1000}).encode(), 800, 2000),  # escaped: 36 kB of JSON, some 2000 tokens
        (json.dumps({"prompt": "word " * 1000}).encode(), 700, 1000),
        (b'{"messages":[{"image_url":{"url":"data:image/png;base64,' + b"A" * 10**6 + b'"}}],"max_tokens":9}', 9, 9),
        (b'{"messages":[{"image_url":{"url":"https://x/y"}}]}' + b"A" * 10**6, 0, 0),
    ],
)  # fmt: skip
def test_tokens_are_rather_too_few(body: bytes, least: int, most: int) -> None:
    assert least <= (answer_tokens(body) or 0) + prompt_tokens(body) <= most
