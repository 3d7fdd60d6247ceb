"""What endpoints answer, and what becomes of it: every way to fail, on a scripted server."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import trio

from aicn.backends.openai_http import OpenAIEndpoints, open_endpoints
from aicn.config.schema import Limits
from aicn.domain.inference import InferenceRequest, Kind, Usage
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError, Busy, DeadlineExceeded, EndpointDown, InvalidRequest, ModelFailed, TooLarge
from aicn.services.ports import Answer
from tests.fakes.endpoint import (
    SSE,
    Connection,
    Script,
    Scripted,
    answers,
    http_chunk,
    open_scripted,
    response,
    stream_head,
)

LIMITS = Limits(connect_s=1, first_byte_s=60, gap_s=20, answer_bytes=2**20)
BODY = b'{"model": "m",  "messages": [],"unknown":1e2}'
DONE = b"data: [DONE]\n\n"
GOOD = {
    "code": 0,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def event(text: str, finish: str | None = None) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]}).encode()


def stream(*pieces: bytes, end: bytes = http_chunk(b"")) -> bytes:
    return stream_head() + b"".join(map(http_chunk, pieces)) + end


@dataclass
class Asked:
    """Endpoints, and the server that they call."""

    endpoints: OpenAIEndpoints
    server: Scripted

    async def open(self, *, streamed: bool, kind: Kind = Kind.CHAT, within: float = 1000) -> Answer:
        request = InferenceRequest("r1", kind, "p", "m", BODY, streamed, trio.current_time() + within)
        return await self.endpoints.open(Endpoint("p", "m", self.server.url("/v1/x?key=7"), kind.value - 1), request)

    async def read(self, *, streamed: bool, kind: Kind = Kind.CHAT) -> tuple[Answer, bytes]:
        answer = await self.open(streamed=streamed, kind=kind)
        return answer, b"".join([chunk.data async for chunk in answer])

    async def fails(self, *, streamed: bool, kind: Kind = Kind.CHAT) -> AicnError:
        """The error, which does not change when asked again, and leaves no connection behind."""
        answer = None
        with pytest.raises(AicnError) as caught:
            answer = await self.open(streamed=streamed, kind=kind)
            while True:
                await answer.receive()
        if answer is not None:
            assert answer.end is None
            with pytest.raises(type(caught.value)):
                await answer.receive()
        assert f"http://127.0.0.1:{self.server.port}" in caught.value.message
        assert caught.value.message.isprintable()
        return caught.value


@asynccontextmanager
async def asking(*scripts: Script, limits: Limits = LIMITS) -> AsyncIterator[Asked]:
    async with open_scripted(*scripts) as server, open_endpoints(limits) as endpoints:
        yield Asked(endpoints, server)


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_request_holds_the_callers_body_and_nothing_else_of_the_caller(streamed: bool) -> None:
    good = stream(event("hi"), DONE) if streamed else response(200, json.dumps(GOOD).encode())
    async with asking(answers(good)) as asked:
        await asked.read(streamed=streamed)
        request = asked.server.requests[0]
    assert (request.target, request.body) == ("/v1/x?key=7", BODY)
    assert request.headers == {
        "host": f"127.0.0.1:{asked.server.port}",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "accept": "text/event-stream" if streamed else "application/json",
        "content-length": str(len(BODY)),
    }


async def test_a_plain_answer_goes_on_byte_for_byte() -> None:
    body = json.dumps(GOOD, indent=3, ensure_ascii=False).encode() + b"\n"
    async with asking(answers(response(200, body))) as asked:
        answer, got = await asked.read(streamed=False)
        assert got == body
        assert answer.end is not None
        assert (answer.end.finish_reason, answer.end.usage) == ("length", Usage(1, 2, 3))
        with pytest.raises(trio.EndOfChannel):
            await answer.receive()


async def test_a_long_plain_answer_comes_in_pieces() -> None:
    body = json.dumps({**GOOD, "pad": "x" * 700_000}).encode()
    async with asking(answers(response(200, body))) as asked:
        answer = await asked.open(streamed=False)
        chunks = [chunk.data async for chunk in answer]
    assert b"".join(chunks) == body
    assert [len(chunk) for chunk in chunks[:-1]] == [256 * 1024] * 2


async def test_a_cancelled_receive_of_a_plain_answer_loses_nothing() -> None:
    body, go_on = json.dumps(GOOD).encode(), trio.Event()

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        raw = response(200, body)
        await connection.send(raw[:-30])
        await go_on.wait()
        await connection.send(raw[-30:])

    async with asking(script) as asked:
        answer = await asked.open(streamed=False)
        with trio.move_on_after(0.01):
            await answer.receive()
        go_on.set()
        assert (await answer.receive()).data == body


async def test_events_come_as_they_are_cut_at_their_ends() -> None:
    first, second = event("höre"), event("und", "stop")
    go_on = trio.Event()

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(stream_head() + http_chunk(b": hello\n\n" + first + second[:30]))
        await go_on.wait()
        await connection.send(http_chunk(second[30:]) + http_chunk(DONE + b"data: late\n\n") + http_chunk(b""))
        assert await connection.receive_request() is None

    async with asking(script) as asked:
        answer = await asked.open(streamed=True)
        assert (await answer.receive()).data == b": hello\n\n" + first
        go_on.set()
        rest = b"".join([chunk.data async for chunk in answer])
        assert rest == second + DONE
        assert answer.end is not None
        assert (answer.end.finish_reason, answer.end.usage) == ("stop", None)


async def test_after_a_whole_stream_the_connection_is_used_again() -> None:
    async def script(connection: Connection) -> None:
        while await connection.receive_request() is not None:
            await connection.send(stream(event("hi"), DONE, end=b""))
            await trio.testing.wait_all_tasks_blocked()
            await connection.send(http_chunk(b""))

    async with asking(script) as asked:
        for _ in range(3):
            _, got = await asked.read(streamed=True)
            assert got == event("hi") + DONE
        assert asked.server.connections == 1


async def test_an_endpoint_that_does_not_end_after_done_delays_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(answers(stream(event("hi"), DONE, end=b""), then_wait=True)) as asked:
        answer, got = await asked.read(streamed=True)
        assert got == event("hi") + DONE
        assert answer.end is not None
        assert trio.current_time() < 0.5
        await asked.server.hung_up.wait()


async def test_an_error_event_is_passed_on_and_the_answer_is_not_complete() -> None:
    error = b'data: {"error": {"message": "cuda", "code": 500}}\n\n'
    async with asking(answers(stream(event("hi"), error))) as asked:
        answer = await asked.open(streamed=True)
        assert (await answer.receive()).data == event("hi") + error
        with pytest.raises(ModelFailed, match=r"ended its answer without \[DONE\]"):
            await answer.receive()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (stream(event("hi")), "ended its answer without [DONE]"),
        (stream(), "ended its answer without [DONE]"),
        (stream(event("hi") + b"data: [DONE]"), "ended its answer without [DONE]"),
        (stream(event("hi"), end=b""), "broke off its answer"),
        (stream(event("hi"), end=b"nonsense\r\n"), "something that is not HTTP/1.1"),
        (response(200, json.dumps(GOOD).encode()), "does not stream: it answered status 200, application/json"),
        (response(200, b"<html>", "text/\x01html"), "it answered status 200, text/ html"),
        (response(200, b"<html>", "Text/HTML; charset=x"), "does not stream: it answered status 200, text/html"),
        (response(200, b'{"error": {"message": "no GPU"}}'), "failed: no GPU"),
        (response(200, b'{"code": 9, "message": "no\\n\\u0000 GPU"}'), "failed: no GPU"),
        (response(204, b"", "text/event-stream"), "does not stream: it answered status 204, text/event-stream"),
    ],
)
async def test_streams_that_are_none(raw: bytes, said: str) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(raw)

    async with asking(script) as asked:
        error = await asked.fails(streamed=True)
    assert type(error) is ModelFailed
    assert said in error.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON object"),
        (b"hello", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b'{"choices": [NaN]}', "no JSON object"),
        (b'{"choices": ["\xff"]}', "no JSON object"),
        ('{"choices": [1]}'.encode("utf-16"), "no JSON object"),
        (b'{"choices": [1]} {}', "no JSON object"),
        (b'{"a":' * 100_000, "no JSON object"),
        (b"{}", "answered without choices"),
        (b'{"choices": []}', "answered without choices"),
        (b'{"choices": null, "error": {"message": "out of memory"}}', "without choices: out of memory"),
        (b'{"code": 17, "message": "no GPU", "choices": [1]}', "failed with code 17: no GPU"),
        (b'{"code": "x", "message": 5}', "failed with code x: "),
        (b'{"choices": [{"text": "' + b"x" * 2**20 + b'"}]}', "answered more than 1048576 bytes"),
    ],
)
async def test_plain_answers_that_are_none(body: bytes, said: str) -> None:
    async with asking(answers(response(200, body))) as asked:
        error = await asked.fails(streamed=False)
    assert type(error) is ModelFailed
    assert said in error.message


async def test_what_is_no_chat_needs_no_choices_but_a_code_of_zero() -> None:
    images = b'{"code": 0, "created": 1, "data": [{"url": "https://x.example/1.png"}]}'
    async with asking(
        answers(response(200, images)), answers(response(200, b'{"code": 3, "message": "nsfw"}'))
    ) as asked:
        answer, got = await asked.read(streamed=False, kind=Kind.IMAGE_GENERATION)
        assert (got, answer.end is not None) == (images, True)
        asked.endpoints._pool.close()
        assert "code 3: nsfw" in (await asked.fails(streamed=False, kind=Kind.IMAGE_EDIT)).message


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "said", "retry_after"),
    [
        (500, (), b"out of\r\n\tmemory \x1b[31m", ModelFailed, "failed (status 500): out of memory [31m", None),
        (500, (), b'{"error": {"message": "cuda"}}', ModelFailed, "failed (status 500): cuda", None),
        (502, (), b"", ModelFailed, "failed (status 502)", None),
        (401, (), b'{"error": "bad key"}', ModelFailed, "failed (status 401): bad key", None),
        (404, (), b'{"detail": "Not Found"}', ModelFailed, "failed (status 404): Not Found", None),
        (304, (), b"", ModelFailed, "failed (status 304)", None),
        (400, (), b'{"message": "top_p"}', InvalidRequest, "refused the request (status 400): top_p", None),
        (422, (), b"\xff\xfe", InvalidRequest, "refused the request (status 422): \ufffd\ufffd", None),
        (413, (), b"context", TooLarge, "refused the request (status 413): context", None),
        (429, (), b"slow down", Busy, "is busy (status 429): slow down", None),
        (429, ("Retry-After: 7",), b"", Busy, "is busy (status 429)", 7.0),
        (503, ("Retry-After: 0",), b"", Busy, "is busy (status 503)", 0.0),
        (503, (), b"loading", ModelFailed, "failed (status 503): loading", None),
        (503, ("Retry-After: Wed, 21 Oct 2065 07:28:00 GMT",), b"", ModelFailed, "failed (status 503)", None),
        (429, ("Retry-After: 99999999999999999999",), b"", Busy, "is busy (status 429)", None),
        (500, (), b"word " * 10_000, ModelFailed, ": " + "word " * 59 + "word", None),
    ],
)
async def test_refusals(
    status: int,
    headers: tuple[str, ...],
    body: bytes,
    kind: type[AicnError],
    said: str,
    retry_after: float | None,
    streamed: bool,
) -> None:
    async with asking(answers(response(status, body, "text/plain", *headers))) as asked:
        error = await asked.fails(streamed=streamed)
    assert type(error) is kind
    assert error.message.endswith(said)
    assert error.retry_after == retry_after


async def test_a_refusal_that_does_not_end_is_told_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await connection.send(http_chunk(b"."))
            await trio.sleep(1)

    async with asking(script) as asked:
        assert (await asked.fails(streamed=True)).message.endswith("failed (status 500)")
        assert trio.current_time() < 6


@pytest.mark.parametrize("streamed", [False, True])
async def test_compressed_answers(streamed: bool) -> None:
    body = gzip.compress(json.dumps(GOOD).encode())
    kind = "text/event-stream" if streamed else "application/json"
    async with asking(answers(response(200, body, kind, "Content-Encoding: gzip"))) as asked:
        assert "answers compressed (gzip)" in (await asked.fails(streamed=streamed)).message


async def test_the_first_byte_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(answers(b"", then_wait=True)) as asked:
        error = await asked.fails(streamed=True)
        assert (type(error), trio.current_time()) == (ModelFailed, pytest.approx(60, abs=0.1))
        assert error.message.endswith("did not begin its answer within 60 s")
        await asked.server.hung_up.wait()


async def test_a_head_is_no_beginning_but_the_first_event_is(autojump_clock: trio.testing.MockClock) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(stream_head())
        await trio.sleep(50)  # longer than a gap may be, shorter than the first byte may take
        await connection.send(http_chunk(event("hi")))
        await connection.wait_closed()

    async with asking(script) as asked:
        answer = await asked.open(streamed=True)
        assert (await answer.receive()).data == event("hi")
        with pytest.raises(ModelFailed, match="sent nothing for 20 s in the middle of its answer"):
            await answer.receive()
        assert trio.current_time() == pytest.approx(70, abs=0.1)
        await asked.server.hung_up.wait()


async def test_a_plain_answer_may_not_stop_in_the_middle_either(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(answers(stream_head(), http_chunk(b'{"choices":'), then_wait=True)) as asked:
        assert "sent nothing for 20 s" in (await asked.fails(streamed=False)).message


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_requests_deadline(streamed: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with asking(answers(stream_head(), http_chunk(event("hi")), then_wait=True)) as asked:
        answer = await asked.open(streamed=streamed, within=7)
        with pytest.raises(DeadlineExceeded):
            while True:
                await answer.receive()
        assert trio.current_time() == pytest.approx(7, abs=0.1)
        await asked.server.hung_up.wait()


async def test_first_byte_ms(autojump_clock: trio.testing.MockClock) -> None:
    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(stream_head())
        await trio.sleep(3)
        await connection.send(http_chunk(event("hi")))
        await trio.sleep(3)
        await connection.send(http_chunk(DONE) + http_chunk(b""))

    async with asking(script) as asked:
        answer, _ = await asked.read(streamed=True)
        assert answer.end is not None
        assert answer.end.first_byte_ms == pytest.approx(3000, abs=20)


@pytest.mark.parametrize("streamed", [False, True])
async def test_closing_an_answer_closes_its_connection(streamed: bool) -> None:
    raw = stream_head() + http_chunk(event("hi")) if streamed else stream_head() + http_chunk(b"{")
    async with asking(answers(raw, then_wait=True)) as asked:
        answer = await asked.open(streamed=streamed)
        if streamed:
            await answer.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_receive_until_closed, answer)
            await trio.testing.wait_all_tasks_blocked()
            await answer.aclose()
            await answer.aclose()
        with trio.fail_after(1):
            await asked.server.hung_up.wait()
        with pytest.raises(trio.ClosedResourceError):
            await answer.receive()


async def _receive_until_closed(answer: Answer) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await answer.receive()


SECRET = Endpoint("p", "m", "", 0, (("X-Team", "blue"), ("x-empty", "")), "sk-s3cret")


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_registered_for_an_endpoint_is_sent_to_it(streamed: bool) -> None:
    good = stream(event("hi"), DONE) if streamed else response(200, json.dumps(GOOD).encode())
    async with asking(answers(good)) as asked:
        request = InferenceRequest("r1", Kind.CHAT, "p", "m", BODY, streamed, trio.current_time() + 100)
        answer = await asked.endpoints.open(replace(SECRET, url=asked.server.url()), request)
        assert b"".join([chunk.data async for chunk in answer])
        headers = asked.server.requests[0].headers
    assert {name: headers.pop(name) for name in ("authorization", "x-team", "x-empty")} == {
        "authorization": "Bearer sk-s3cret",
        "x-team": "blue",
        "x-empty": "",
    }
    assert set(headers) == {"host", "accept-encoding", "content-type", "accept", "content-length"}


async def test_nothing_registered_goes_where_an_endpoint_redirects_to() -> None:
    async with open_scripted(answers(response(200, json.dumps(GOOD).encode()))) as elsewhere:
        away = answers(response(307, b"", "text/plain", f"Location: {elsewhere.url()}"))
        async with asking(away) as asked:
            request = InferenceRequest("r1", Kind.CHAT, "p", "m", BODY, False, trio.current_time() + 100)
            with pytest.raises(ModelFailed, match="not the same host and port") as caught:
                await asked.endpoints.open(replace(SECRET, url=asked.server.url()), request)
        assert asked.server.requests[0].headers["authorization"] == "Bearer sk-s3cret"
        assert not elsewhere.connections
    assert "s3cret" not in caught.value.message


async def test_the_head_of_a_good_answer_and_the_words_of_a_refusal_are_kept() -> None:
    plain = json.dumps(GOOD).encode()
    chunked = stream_head("X-Own: 2").replace(SSE.encode(), b"application/json") + http_chunk(plain) + http_chunk(b"")
    for raw in (response(201, plain, "application/json", "X-Own: 2"), chunked):
        async with asking(answers(raw)) as asked:
            answer, _ = await asked.read(streamed=False)
            assert answer.head is not None
            assert (answer.head.get(b"x-own"), answer.head.get(b"content-length")) == ("2", str(len(plain)))
    async with asking(answers(stream(event("hi"), DONE))) as asked:
        answer, _ = await asked.read(streamed=True)
        assert answer.head is not None
        assert (answer.head.status, answer.head.get(b"content-type")) == (200, SSE)
    for status, body in ((500, b"out of memory"), (200, b'{"code": 3, "message": "no"}'), (400, b"")):
        async with asking(answers(response(status, body, "application/json", "X-Own: 2"))) as asked:
            for streamed in (False, True):
                refusal = (await asked.fails(streamed=streamed)).refusal
                assert refusal is not None
                assert (refusal.status, refusal.reason, refusal.body) == (status, "X", body)
                assert (b"x-own", b"2") in refusal.headers
    async with asking(answers(response(500, b"x" * 20_000))) as asked:
        assert (await asked.fails(streamed=False)).refusal is None  # a part of it would be no words


@pytest.mark.parametrize("status", [400, 500])
async def test_a_page_for_developers_that_shows_the_key_is_not_quoted(status: int) -> None:
    async with asking(answers(response(status, b"you sent Bearer sk-s3cret, and then it crashed"))) as asked:
        request = InferenceRequest("r1", Kind.CHAT, "p", "m", BODY, False, trio.current_time() + 100)
        with pytest.raises(AicnError) as caught:
            await asked.endpoints.open(replace(SECRET, url=asked.server.url()), request)
        assert "s3cret" not in caught.value.message
        assert caught.value.refusal is None
    async with asking(answers(response(status, b"team blue has no quota"))) as asked:  # nothing that must not be told
        with pytest.raises(AicnError, match="team blue has no quota") as caught:
            await asked.endpoints.open(replace(SECRET, url=asked.server.url()), request)
        assert caught.value.refusal is not None


@pytest.mark.parametrize("status", [401, 403])
async def test_an_endpoint_that_repeats_the_key_it_refuses_is_not_quoted(status: int) -> None:
    async with asking(answers(response(status, b'{"error": "wrong key sk-s3cret"}'))) as asked:
        request = InferenceRequest("r1", Kind.CHAT, "p", "m", BODY, False, trio.current_time() + 100)
        endpoint = replace(SECRET, url=asked.server.url())
        for call in (asked.endpoints.open(endpoint, request), asked.endpoints.probe(endpoint)):
            with pytest.raises(ModelFailed, match=rf"does not let this node in \(status {status}\)") as caught:
                await call
            assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "said"),
    [
        *((status, "") for status in (200, 204, 400, 413, 415, 422, 429, 500)),
        *((status, "takes no requests at this path") for status in (404, 405)),
        *((status, "does not let this node in") for status in (401, 403)),
        *((status, "does not do this now") for status in (501, 502, 503, 504)),
        (301, "register that"),
    ],
)
async def test_a_probe_asks_for_nothing_and_reads_the_status(status: int, said: str) -> None:
    more = ("Location: /new",) if status == 301 else ()
    async with asking(answers(response(status, b"{}", "application/json", *more))) as asked:
        endpoint = replace(SECRET, url=asked.server.url("/v1/x?key=7"))
        if said:
            with pytest.raises(ModelFailed, match=said):
                await asked.endpoints.probe(endpoint)
        else:
            await asked.endpoints.probe(endpoint)
        [request] = asked.server.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/x?key=7", b"{}")
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer sk-s3cret", "blue")


async def test_a_probe_does_not_wait_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(connection: Connection) -> None:
        await connection.wait_closed()

    async with asking(silent, limits=replace(LIMITS, first_byte_s=1000)) as asked:
        started = trio.current_time()
        with pytest.raises(ModelFailed, match="did not begin its answer within 10 s"):
            await asked.endpoints.probe(replace(SECRET, url=asked.server.url()))
        assert trio.current_time() - started < 11
        await asked.server.hung_up.wait()


async def test_an_endpoint_that_cannot_be_connected_to_is_down() -> None:
    async with asking(answers(b"")) as asked:
        pass
    async with open_endpoints(LIMITS) as endpoints:
        with pytest.raises(EndpointDown, match="connection refused"):
            await endpoints.probe(replace(SECRET, url=asked.server.url()))
