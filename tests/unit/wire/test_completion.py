from __future__ import annotations

import pytest

from aicn.domain.inference import Kind
from aicn.errors import ModelFailed
from aicn.wire.completion import error_message, one_line, parse_completion


@pytest.mark.parametrize("body", [b'{"choices":[{}]}', b'{"code":0,"choices":[{}]}', b'{"code":null,"choices":[{}]}'])
def test_a_good_completion(body: bytes) -> None:
    assert parse_completion(body, Kind.CHAT, source="node X")["choices"] == [{}]


def test_only_chats_need_choices() -> None:
    assert parse_completion(b'{"data":[]}', Kind.IMAGE_GENERATION, source="node X") == {"data": []}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON object"),
        (b"<html>", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b"[]", "no JSON object"),
        (b'{"choices":[NaN]}', "no JSON object"),
        (b'{"choices":[{}]}{"code":0}', "no JSON object"),
        ('{"choices":[{}]}'.encode("utf-16"), "no JSON object"),
        (b"{}", "without choices"),
        (b'{"choices":null}', "without choices"),
        (b'{"choices":[]}', "without choices"),
        (b'{"error":{"message":"no such model"}}', "without choices: no such model"),
        (b'{"code":429,"message":"slow down","choices":[{}]}', "code 429: slow down"),
    ],
)
def test_no_completion(body: bytes, says: str) -> None:
    with pytest.raises(ModelFailed, match=f"^node X .*{says}"):
        parse_completion(body, Kind.CHAT, source="node X")


def test_a_strangers_words_are_one_short_line() -> None:
    assert one_line("a\n\x1b[31m  b") == "a [31m b"
    assert len(one_line("x" * 10_000)) == 300
    assert error_message({"error": "plain"}) == "plain"
    assert error_message({"error": {"message": 5}, "detail": "fastapi"}) == "fastapi"
    assert error_message({}) == ""


@pytest.mark.parametrize("body", [b"{}", b'{"data": []}', b'{"data": {}}', b'{"data": null, "error": "no"}'])
def test_embeddings_without_data_are_none(body: bytes) -> None:
    with pytest.raises(ModelFailed, match=r"^node X answered without data"):
        parse_completion(body, Kind.EMBEDDING, source="node X")
    assert parse_completion(b'{"data":[{}]}', Kind.EMBEDDING, source="node X") == {"data": [{}]}
