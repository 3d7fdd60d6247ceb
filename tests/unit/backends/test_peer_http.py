"""Answers that come over a stream from a node of the existing network: at every cut, and every way to fail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.backends.peer_http import PeerHttp
from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind, Usage
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
)
from aicn.services.ports import Answer
from tests.fakes.endpoint import http_chunk, response, stream_head
from tests.fakes.streams import MemoryPeerStream, peer_stream_pair

LIMITS = Limits(first_byte_s=60, gap_s=20, answer_bytes=4096)
BODY = b'{"model": "m",  "messages": [],"unknown":1e2}'
DONE = b"data: [DONE]\n\n"
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
PLAIN = response(200, json.dumps(COMPLETION).encode())
EVENTS = [
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
    DONE,
]
STREAM = stream_head() + b"".join(map(http_chunk, EVENTS)) + http_chunk(b"")
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(EVENTS)

Script = Callable[[MemoryPeerStream], Awaitable[None]]


@dataclass
class Asked:
    """A node that answers as `script` says; `asked` is all that has come to it."""

    here: MemoryPeerStream
    asked: bytearray = field(default_factory=bytearray)

    async def open(self, *, stream: bool, within: float = 1000) -> Answer:
        deadline = trio.current_time() + within
        request = InferenceRequest("r", Kind.CHAT, "the project", "m&1", BODY, stream, deadline)
        return await PeerHttp(LIMITS).open(self.here, request)

    async def read(self, *, stream: bool) -> tuple[Answer, bytes]:
        answer = await self.open(stream=stream)
        return answer, b"".join([chunk.data async for chunk in answer])

    async def fails(self, *, stream: bool, within: float = 1000) -> AicnError:
        """The error."""
        with pytest.raises(AicnError) as caught:
            answer = await self.open(stream=stream, within=within)
            while True:
                await answer.receive()
        return caught.value


@asynccontextmanager
async def asked(script: Script) -> AsyncIterator[Asked]:
    here, there = peer_stream_pair(PeerId("us"), PeerId("them"))
    world = Asked(here)

    async def answer() -> None:
        while data := await there.receive_some():
            world.asked += data
        await script(there)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        yield world
        nursery.cancel_scope.cancel()


def says(*pieces: bytes, reset: bool = False, then_wait: bool = False) -> Script:
    async def script(stream: MemoryPeerStream) -> None:
        for piece in pieces:
            await stream.send_all(piece)
        if then_wait:
            await trio.sleep_forever()
        if reset:
            await wait_all_tasks_blocked()  # a reset takes back what was not read
            stream.reset()
        else:
            await stream.send_eof()

    return script


async def test_nothing_but_the_request_is_sent() -> None:
    async with asked(says(PLAIN)) as world:
        await world.read(stream=False)
        assert bytes(world.asked) == (
            b"POST /api/v0/chat/completion?model=m%261&project=the+project HTTP/1.1\r\n"
            b"Host: 127.0.0.1\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
            b"Content-Length: 45\r\n\r\n" + BODY
        )


@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_good_answers(step: int) -> None:
    for stream, whole, body in (
        (False, PLAIN, PLAIN.split(b"\r\n\r\n")[1]),
        (True, STREAM, b"".join(EVENTS)),
        (True, UNTIL_CLOSE, b"".join(EVENTS)),
        (True, b"HTTP/1.1 103 Early Hints\r\n\r\n" + STREAM, b"".join(EVENTS)),
    ):
        async with asked(says(*(whole[at : at + step] for at in range(0, len(whole), step)))) as world:
            answer, text = await world.read(stream=stream)
            assert text == body
            assert answer.end is not None
            assert answer.end.finish_reason == ("stop" if stream else "length")
            assert answer.end.usage == (None if stream else Usage(1, 2, 3))
            await answer.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await answer.receive()


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("name", ["plain", "stream", "until close"])
async def test_an_answer_that_breaks_off_anywhere_is_never_a_short_one(name: str, reset: bool) -> None:
    whole = {"plain": PLAIN, "stream": STREAM, "until close": UNTIL_CLOSE}[name]
    head = whole.index(b"\r\n\r\n") + 4
    complete = len(whole) if name == "plain" else whole.index(DONE) + len(DONE)
    for cut in range(complete):
        async with asked(says(whole[:cut], reset=reset)) as world:
            error = await world.fails(stream=name != "plain")
            assert type(error) is (AnswerBroken if cut >= head else ModelFailed), cut
            if cut < head:
                assert "it has no such one, or its endpoint is down" in error.message
    async with asked(says(whole[:complete], reset=reset)) as world:
        assert (await world.read(stream=name != "plain"))[0].end is not None


async def test_chunks_come_as_they_are_sent() -> None:
    gates = [trio.Event() for _ in EVENTS]

    async def script(stream: MemoryPeerStream) -> None:
        await stream.send_all(stream_head())
        for gate, event in zip(gates, EVENTS, strict=True):
            await stream.send_all(http_chunk(event))
            await gate.wait()
        await stream.send_all(http_chunk(b""))

    async with asked(script) as world:
        answer = await world.open(stream=True)
        for gate, event in zip(gates, EVENTS, strict=True):
            assert (await answer.receive()).data == event
            gate.set()
        with pytest.raises(trio.EndOfChannel):
            await answer.receive()


ERROR = b'{"error": {"message": "why not"}}'


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (response(400, ERROR), InvalidRequest, "peer them refused the request (status 400): why not"),
        (response(422, ERROR), InvalidRequest, "peer them refused the request (status 422): why not"),
        (response(413, ERROR), TooLarge, "peer them refused the request (status 413): why not"),
        (response(401, ERROR), ModelFailed, "peer them failed (status 401): why not"),
        (response(429, ERROR, "text/plain", "Retry-After: 9"), Busy, "peer them is busy (status 429): why not"),
        (response(503, ERROR, "text/plain", "Retry-After: 9"), Busy, "peer them is busy (status 503): why not"),
        (response(503, ERROR), ModelFailed, "peer them failed (status 503): why not"),
        (response(500, b""), ModelFailed, "peer them failed (status 500)"),
        (response(302, b"", "text/html", "Location: http://127.0.0.1/"), ModelFailed, "peer them failed (status 302)"),
        (response(200, b"x", "text/event-stream", "Content-Encoding: gzip"), ModelFailed, "peer them answers compressed (gzip), unasked"),
        (b"220 mail.example ESMTP\r\n\r\n", ProtocolViolation, "peer them: chat-proxy: not an answer: illegal status line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, ProtocolViolation, "peer them: chat-proxy: not an answer: Receive buffer too long"),
    ],
)  # fmt: skip
async def test_failures(answer: bytes, kind: type[AicnError], message: str) -> None:
    for stream in (False, True):
        async with asked(says(answer, then_wait=True)) as world:
            error = await world.fails(stream=stream)
            assert (type(error), error.message[: len(message)]) == (kind, message)
            assert error.retry_after == (9 if kind is Busy else None)
            assert world.here.was_reset


async def test_answers_that_are_none() -> None:
    for body, message in (
        (b"<html>", "answered something that is no JSON object"),
        (b'{"code": 7, "message": "no"}', "failed with code 7: no"),
        (b"{}" + b" " * 5000, "answered more than 4096 bytes"),
    ):
        async with asked(says(response(200, body))) as world:
            error = await world.fails(stream=False)
            assert (type(error), error.message) == (ModelFailed, f"peer them {message}")
    async with asked(says(PLAIN)) as world:
        assert "does not stream: it answered status 200" in (await world.fails(stream=True)).message
    async with asked(says(stream_head() + http_chunk(EVENTS[0]) + http_chunk(b""))) as world:
        error = await world.fails(stream=True)
        assert (type(error), error.message) == (AnswerBroken, "peer them ended its answer without [DONE]")


async def test_silence_has_its_deadlines(autojump_clock: MockClock) -> None:
    for stream, pieces, within, message, after in (
        (True, [], 1000, "did not begin its answer within 60 s", 60),
        (True, [STREAM[:-30]], 1000, "sent nothing for 20 s", 20),
        (False, [PLAIN[:-1]], 1000, "sent nothing for 20 s", 20),
        (True, [STREAM[:-30]], 10, "the request's deadline has passed", 10),
    ):
        async with asked(says(*pieces, then_wait=True)) as world:
            began = trio.current_time()
            error = await world.fails(stream=stream, within=within)
            assert type(error) is DeadlineExceeded
            assert message in error.message
            assert trio.current_time() - began == pytest.approx(after, abs=60 if pieces else 1)


async def test_a_peer_that_does_not_take_the_request(autojump_clock: MockClock) -> None:
    here, _ = peer_stream_pair(PeerId("us"), PeerId("them"), window=10)
    with pytest.raises(DeadlineExceeded, match="does not take the request"):
        await Asked(here).open(stream=True)
    assert here.was_reset


async def test_cancelled_or_closed_it_resets_the_stream() -> None:
    async with asked(says(then_wait=True)) as world:
        with trio.move_on_after(0.01):
            await world.open(stream=True)
        assert world.here.was_reset
    async with asked(says(STREAM[:-30], then_wait=True)) as world:
        answer = await world.open(stream=True)
        await answer.receive()
        await answer.aclose()
        await answer.aclose()
        assert world.here.was_reset
