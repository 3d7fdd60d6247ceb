"""What real servers answer to the four kinds of requests, between spec 2 and OpenAI: taken as it is, or named as what it is."""

from __future__ import annotations

import pytest
import trio

from aicn.backends.openai_http import open_endpoints
from aicn.config.schema import Limits
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import KIND_OF_TYPE, Endpoint
from aicn.errors import ModelFailed
from tests.fakes.endpoint import answers, open_scripted, response

RESULTS = {
    Kind.CHAT: b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}]',
    Kind.IMAGE_GENERATION: b'"data":[{"url":"https://x.example/1.png"}]',
    Kind.IMAGE_EDIT: b'"data":[{"b64_json":"aGk="}]',
    Kind.COMPLETION: b'"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]',
    Kind.EMBEDDING: b'"data":[{"object":"embedding","index":0,"embedding":[0.5]}]',
}


async def ask(kind: Kind, body: bytes, content_type: str = "application/json") -> bytes | str:
    """What a node makes of `body` as an endpoint's answer: the answer, or the words of a ModelFailed."""
    number = next(number for number, one in KIND_OF_TYPE.items() if one is kind.offered)
    limits = Limits(connect_s=5, first_byte_s=10, gap_s=10)
    with trio.fail_after(30):
        async with (
            open_scripted(answers(response(200, body, content_type))) as server,
            open_endpoints(limits) as endpoints,
        ):
            request = InferenceRequest("r", kind, "P", "M", b"{}", stream=False, deadline=trio.current_time() + 20)
            answer = await endpoints.open(Endpoint("P", "M", server.url(), number), request)
            try:
                return b"".join([chunk.data async for chunk in answer])
            except ModelFailed as error:
                return error.message
            finally:
                await answer.aclose()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "frame",
    [
        b"{%s}",
        b'{"code":0,"message":"success",%s}',
        b'{"code":null,"message":null,%s}',
        b' \n{"created": 1.0, "system_fingerprint": "x", "timings": {"a": [1e-9]}, %s, "usage": null}\r\n',
        b'{"model":"\\u00e9\xc3\xa9",%s}',
    ],
    ids=["OpenAI", "spec 2", "code null", "further fields", "escapes"],
)
async def test_a_good_answer_is_passed_on_as_it_is(kind: Kind, frame: bytes) -> None:
    body = frame.replace(b"%s", RESULTS[kind])
    assert await ask(kind, body) == body


@pytest.mark.parametrize("kind", Kind)
async def test_the_declared_type_of_a_plain_answer_does_not_matter(kind: Kind) -> None:
    body = b"{%s}" % RESULTS[kind]
    for content_type in ("text/plain", "text/html; charset=utf-8", "application/problem+json"):
        assert await ask(kind, body, content_type) == body


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b'{"code":7,"message":"worn out",%s}', "failed with code 7: worn out"),
        (b'{"code":"E1","error":{"message":"worn out"},%s}', "failed with code E1: worn out"),
        (b"{%s,}", "no JSON object"),
        (b"[{%s}]", "no JSON object"),
        (b'{%s,"score":NaN}', "no JSON object"),
        (b"{%s}{%s}", "no JSON object"),
        (b"", "no JSON object"),
    ],
)
async def test_what_is_no_good_answer_is_the_endpoints_fault(kind: Kind, frame: bytes, words: str) -> None:
    told = await ask(kind, frame.replace(b"%s", RESULTS[kind]))
    assert isinstance(told, str)
    assert words in told
