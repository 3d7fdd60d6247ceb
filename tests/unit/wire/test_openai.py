"""What is read of requests to `/v1`, what changes in them, and what is made of answers."""

from __future__ import annotations

import json

import pytest

from aicn.domain.inference import Kind
from aicn.domain.offers import ListedModel
from aicn.errors import InvalidRequest, MalformedBody, ModelFailed
from aicn.wire.openai import answers, requests

CHAT = b'{"messages":[{"role":"user","content":"\\u00e9"}], "model":"P/M","stream":true,"temperature":1.00}'
DRAW = b'{"model":"M","prompt":"a sea","size":"1024x1024"}'


def test_a_body_changes_only_where_the_model_is_called_otherwise() -> None:
    chat = requests.decode_chat(CHAT)
    assert (chat.kind, chat.model, chat.stream) == (Kind.CHAT, "P/M", True)
    assert chat.body_for("P/M") is CHAT
    assert chat.body_for("M") == CHAT.replace(b"P/M", b"M")


def test_images_come_in_the_answer_unless_the_client_says_how() -> None:
    asked = requests.decode_image(DRAW, Kind.IMAGE_GENERATION)
    assert asked.body_for("M") == DRAW[:-1] + b',"response_format":"b64_json"}'
    for empty in (b"null", b'""'):
        asked = requests.decode_image(DRAW[:-1] + b',"response_format":%s}' % empty, Kind.IMAGE_GENERATION)
        assert asked.body_for("M") == DRAW[:-1] + b',"response_format":"b64_json"}'
    told = DRAW[:-1] + b',"response_format": "url"}'
    assert requests.decode_image(told, Kind.IMAGE_GENERATION).body_for("M") is told
    with pytest.raises(InvalidRequest, match=r"^response_format: "):
        requests.decode_image(DRAW[:-1] + b',"response_format":"gif"}', Kind.IMAGE_GENERATION)


@pytest.mark.parametrize("prompt", ['"x"', '""', "[1,2]", '["a","b"]', "[[1],[2]]"])
def test_prompts(prompt: str) -> None:
    asked = requests.decode_completion(b'{"model":"M","prompt":%s}' % prompt.encode())
    assert (asked.kind, asked.stream) == (Kind.COMPLETION, False)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"model":"M"', b"\xff"])
def test_what_is_no_object(body: bytes) -> None:
    for decode in (requests.decode_chat, requests.decode_completion, requests.decode_embedding):
        with pytest.raises((MalformedBody, InvalidRequest)):
            decode(body)


def test_images_are_answered_as_openai_does() -> None:
    told = {"created": 7, "more": 1, "choices": [{"b64_json": "AA", "revised_prompt": "é", "x": 1}, {"url": "data:,"}]}
    made = json.loads(answers.encode_images(json.dumps(told).encode(), source="node x"))
    assert made == {"created": 7, "data": [{"b64_json": "AA", "revised_prompt": "é"}, {"url": "data:,"}]}
    assert json.loads(answers.encode_images(b'{"choices":[{"url":"x"}],"created":true}', source="x"))["created"] == 0


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices":{}}', b'{"choices":[]}', b'{"choices":[{"url":1}]}', b'{"choices":["x"]}']
)
def test_answers_without_images(body: bytes) -> None:
    with pytest.raises(ModelFailed, match="node x answered without images"):
        answers.encode_images(body, source="node x")


def test_a_model_whose_context_nobody_knows() -> None:
    one = ListedModel("M", "P", "M", (Kind.IMAGE_EDIT,), 1, 0, 0, 0, (), 5)
    told = json.loads(answers.encode_models([one]))
    assert told["object"] == "list"
    assert told["data"][0] == json.loads(answers.encode_model(one))
    assert (told["data"][0]["context_length"], told["data"][0]["kinds"]) == (None, ["image_edit"])
