"""Both sides of `/chat-proxy/0.0.1` over streams in memory: what is answered, what is reset, who waits. Parsing: test_peer_http.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Head, InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    DeadlineExceeded,
    EndpointDown,
    Forbidden,
    InvalidRequest,
    ModelFailed,
    Refusal,
    UnknownNode,
    Unsupported,
)
from aicn.services.legacy.proxy import ProxyRequester, ProxyWorker
from aicn.services.ports import Answer, PeerStream
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire.legacy import chat_proxy
from tests.fakes.answers import ScriptedAnswer, ScriptedEndpoints, Step
from tests.fakes.peers import MemoryNetwork
from tests.fakes.stores import MemoryRegistrations
from tests.fakes.streams import MemoryPeerStream

US, THEM = PeerId("us"), PeerId("them")
BODY = b'{"model":"M","messages":[{"role":"user","content":"hi"}],"stream":true}'
HEAD = Head(200, "Fine", ((b"content-type", b"text/event-stream"), (b"x-served-by", b"gpu-7"), (b"set-cookie", b"a=b")))
CHUNKED = (
    b"HTTP/1.1 200 Fine\r\ncontent-type: text/event-stream\r\nx-served-by: gpu-7\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def written(body: bytes = BODY, *, project: str = "P", model: str = "M") -> bytes:
    """A request as a requester writes it."""
    return chat_proxy.Requester().request(project, model, body, stream=True)


class HeadedAnswer(ScriptedAnswer):
    """Has the head of an endpoint's answer."""

    @property
    def head(self) -> Head:
        return HEAD


class HeadedEndpoints(ScriptedEndpoints):
    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        answer = await super().open(endpoint, request)
        assert isinstance(answer, ScriptedAnswer)
        answer.__class__ = HeadedAnswer
        return answer


@dataclass
class World:
    network: MemoryNetwork
    endpoints: ScriptedEndpoints
    worker: Worker

    async def open(self) -> MemoryPeerStream:
        stream = await self.network.hosts[US].open_stream(THEM, chat_proxy.PROTOCOL)
        assert isinstance(stream, MemoryPeerStream)
        return stream

    async def exchange(self, *pieces: bytes) -> bytes:
        """What is answered to the pieces of a request, up to the end; AnswerBroken: a reset."""
        stream = await self.open()
        for piece in pieces:
            await stream.send_all(piece)
        answer = b""
        with trio.fail_after(100):
            while data := await stream.receive_some():
                answer += data
        return answer


@asynccontextmanager
async def a_worker(
    script: Callable[[InferenceRequest], Sequence[Step]],
    limits: Limits | None = None,
    *,
    window: int = 2**18,
    wallet: bool = False,
) -> AsyncIterator[World]:
    limits = limits or Limits()
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, window=window)
        network.host(US)
        registration = Registration(MemoryRegistrations())
        await registration.register("P", [Endpoint("P", "M", "http://127.0.0.1:1/v1/chat/completions?key=1")])
        endpoints = HeadedEndpoints(script)
        worker = Worker(registration, endpoints, limits, request_bytes=1000, wallet_required=wallet)
        network.host(THEM).serve(chat_proxy.PROTOCOL, ProxyWorker(worker, limits, body_bytes=1000).serve)
        yield World(network, endpoints, worker)
        nursery.cancel_scope.cancel()


def fails(error: Exception) -> Callable[[InferenceRequest], Sequence[Step]]:
    return lambda _: [error]


# ---- the side that has the models ----


@pytest.mark.parametrize("step", [1, 10, 1000])
async def test_a_request_is_answered_as_the_endpoint_does(step: int) -> None:
    asked = written()
    async with a_worker(lambda _: [b"data: a\n\n", b"data: [DONE]\n\n"]) as world:
        pieces = [asked[at : at + step] for at in range(0, len(asked), step)]
        assert await world.exchange(*pieces) == CHUNKED + b"9\r\ndata: a\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        endpoint, request = world.endpoints.requests[0]
        assert endpoint.url.endswith("?key=1")
        assert (request.kind, request.project, request.model, request.body) == (Kind.CHAT, "P", "M", BODY)
        assert request.stream
        assert request.deadline - trio.current_time() == pytest.approx(3600, abs=60)
        await wait_all_tasks_blocked()
        assert world.endpoints.answers[0].closed


async def test_only_the_json_says_whether_it_is_streamed_and_nothing_else_of_a_request_counts() -> None:
    async with a_worker(lambda _: [b"{}"]) as world:
        for body, stream in ((b'{"stream":false}', False), (b"{}", False), (b'{"stream":1}', False), (BODY, True)):
            await world.exchange(written(body))
            assert world.endpoints.requests[-1][1].stream is stream
        assert await world.exchange(
            b"PUT /any?zz=1&model=M&project=P HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 2\r\n\r\n{}"
            b"GET /second HTTP/1.1\r\n\r\n"
        )


async def test_each_chunk_is_written_at_once_and_in_one_piece() -> None:
    gates = [trio.Event() for _ in range(3)]
    async with a_worker(lambda _: [b"a", gates[0], b"b", gates[1], b"c", gates[2]]) as world:
        stream = await world.open()
        await stream.send_all(written())
        for gate, expected in zip(gates, (CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n"), strict=True):
            assert await stream.receive_some() == expected
            gate.set()
        assert await stream.receive_some() == b"0\r\n\r\n"
        assert await stream.receive_some() == b""


REFUSED = ModelFailed("the model endpoint failed")
REFUSED.refusal = Refusal(418, "I'm a teapot", ((b"content-length", b"9"), (b"x-tea", b"green")), b"short and stout")


@pytest.mark.parametrize(
    ("error", "status", "code", "more"),
    [
        (Busy("full", retry_after=7.4), "503 ", 1006, b"retry-after: 7\r\n"),
        (Busy("full", retry_after=0.1), "503 ", 1006, b"retry-after: 1\r\n"),
        (Forbidden("no"), "403 ", 1009, b""),
        (InvalidRequest("messages: is missing"), "400 ", 1001, b""),
        (ModelFailed("it answered nonsense"), "502 ", 1006, b""),
        (DeadlineExceeded("too late"), "504 ", 1004, b""),
    ],
)
async def test_failures_before_the_head_have_a_status(error: AicnError, status: str, code: int, more: bytes) -> None:
    async with a_worker(fails(error)) as world:
        head, body = (await world.exchange(written())).split(b"\r\n\r\n")
        assert head + b"\r\n" == (
            f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n".encode() + more
        )
        assert json.loads(body) == {"code": code, "message": error.message}


async def test_an_endpoint_s_own_refusal_is_passed_on() -> None:
    async with a_worker(fails(REFUSED)) as world:
        answer = await world.exchange(written())
        assert answer == b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 15\r\nx-tea: green\r\n\r\nshort and stout"


async def test_a_failure_that_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    async with a_worker(fails(ValueError("secret"))) as world:
        answer = await world.exchange(written())
        assert answer.startswith(b"HTTP/1.1 500 \r\n")
        assert b"secret" not in answer
        assert "a request of peer us failed" in caplog.text


@pytest.mark.parametrize(
    "asked",
    [
        written(model="other"),
        written(project="other"),
        b"\x16\x03\x01 junk\r\n\r\n",
        b"GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n",
        written()[:-1],
    ],
)
async def test_what_cannot_be_asked_is_reset_without_a_byte(asked: bytes) -> None:
    async with a_worker(lambda _: [b"a"]) as world:
        stream = await world.open()
        await stream.send_all(asked)
        await stream.send_eof()
        with trio.fail_after(5), pytest.raises(AnswerBroken):
            await stream.receive_some()
        assert world.endpoints.requests == []


async def test_an_endpoint_that_is_down_is_a_reset() -> None:
    async with a_worker(fails(EndpointDown("connection refused"))) as world:
        with pytest.raises(AnswerBroken):
            await world.exchange(written())


async def test_bodies_that_are_none_or_too_large_are_told() -> None:
    async with a_worker(lambda _: [b"a"]) as world:
        assert (await world.exchange(written(b"{nonsense"))).startswith(b"HTTP/1.1 400 ")
        assert (await world.exchange(written(b"[]"))).startswith(b"HTTP/1.1 400 ")
        large = await world.exchange(written(b" " * 1001))
        assert large.startswith(b"HTTP/1.1 413 ")
        assert b"over this node's limit of 1000 bytes" in large
        assert world.endpoints.requests == []


async def test_without_a_wallet_where_one_is_needed() -> None:
    async with a_worker(lambda _: [b"a"], wallet=True) as world:
        assert (await world.exchange(written())).startswith(b"HTTP/1.1 403 ")


async def test_a_full_queue_is_told() -> None:
    never = trio.Event()
    async with a_worker(lambda _: [b"a", never], Limits(concurrency=1, queue=0)) as world:
        first = await world.open()
        await first.send_all(written())
        await first.receive_some()
        refused = await world.exchange(written())
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in refused


@pytest.mark.parametrize(
    "error", [ModelFailed("broke off"), DeadlineExceeded("late"), Busy("?"), REFUSED, ValueError()]
)
async def test_an_answer_that_breaks_off_never_ends_cleanly(error: Exception) -> None:
    async with a_worker(lambda _: [b"a", error]) as world:
        stream = await world.open()
        await stream.send_all(written())
        with pytest.raises(AnswerBroken):
            while True:
                assert await stream.receive_some()
        assert world.endpoints.answers[0].closed


@pytest.mark.parametrize("begun", [True, False])
async def test_a_hang_up_stops_the_endpoint(begun: bool) -> None:
    async with a_worker(lambda _: [b"a", trio.Event()] if begun else [trio.Event()]) as world:
        stream = await world.open()
        await stream.send_all(written())
        if begun:
            await stream.receive_some()
        await wait_all_tasks_blocked()
        assert not world.endpoints.answers[0].closed
        stream.reset()
        await wait_all_tasks_blocked()
        assert world.endpoints.answers[0].closed
        assert world.worker.load("P", "M")[1] == 0


async def test_a_requester_that_takes_nothing_loses_its_place(autojump_clock: MockClock) -> None:
    async with a_worker(lambda _: [b"x" * 100] * 10, window=500) as world:
        stream = await world.open()
        await stream.send_all(written())
        await trio.sleep(74)
        assert not stream.was_reset
        await trio.sleep(2)
        assert stream.was_reset
        assert world.endpoints.answers[0].closed
        assert world.worker.load("P", "M")[1] == 0


async def test_a_slow_reader_slows_the_endpoint_down() -> None:
    async with a_worker(lambda _: [b"x" * 100] * 100, window=500) as world:
        stream = await world.open()
        await stream.send_all(written())
        await wait_all_tasks_blocked()
        assert len(world.endpoints.answers[0]._steps) > 90
        total = 0
        while data := await stream.receive_some():
            total += len(data)
        assert total == len(CHUNKED) + 100 * 106 + 5


async def test_a_request_must_arrive_in_time(autojump_clock: MockClock) -> None:
    async with a_worker(lambda _: [b"a"]) as world:
        began = trio.current_time()
        assert (await world.exchange(written()[:-1])).startswith(b"HTTP/1.1 504 ")
        assert trio.current_time() - began == pytest.approx(30, abs=1)
        assert world.worker.exchanges._arrivals._held == 0


async def test_a_stopping_node_waits_for_what_runs_and_refuses_the_rest() -> None:
    gate = trio.Event()
    async with a_worker(lambda _: [b"a", gate]) as world:
        stream = await world.open()
        await stream.send_all(written())
        await stream.receive_some()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.worker.drain)
            await wait_all_tasks_blocked()
            assert (await world.exchange(written())).startswith(b"HTTP/1.1 503 ")
            assert nursery.child_tasks
            gate.set()
        assert await stream.receive_some() == b"0\r\n\r\n"


# ---- the side that asks ----


class ScriptedModels:
    """`PeerModels` whose answers end when `gate` is set; `failure`, when set, is raised instead."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.failure: AicnError | None = None
        self.silent = False
        self.answers: list[ScriptedAnswer] = []

    async def open(self, stream: PeerStream, request: InferenceRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep_forever()
        if self.failure is not None:
            raise self.failure
        self.answers.append(HeadedAnswer([b"a", self.gate, b"b"]))
        return self.answers[-1]


@asynccontextmanager
async def a_requester() -> AsyncIterator[tuple[ProxyRequester, ScriptedModels]]:
    async def serve(stream: PeerStream) -> None:
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        network.host(THEM).serve(chat_proxy.PROTOCOL, serve)
        models = ScriptedModels()
        yield ProxyRequester(network.host(US), models), models
        nursery.cancel_scope.cancel()


def a_request(**changes: Any) -> InferenceRequest:
    request = InferenceRequest("r", Kind.CHAT, "P", "M", BODY, stream=True, deadline=trio.current_time() + 60)
    return replace(request, **changes)


async def test_an_answer_comes_through() -> None:
    async with a_requester() as (requester, models):
        models.gate.set()
        answer = await requester.open(THEM, a_request())
        assert (answer.node, answer.head) == (THEM, HEAD)
        assert [chunk.data async for chunk in answer] == [b"a", b"b"]
        assert answer.end is not None
        await answer.aclose()
        assert models.answers[0].closed
        assert requester._admissions == {}


async def test_sixty_at_once_and_the_others_in_turn() -> None:
    async with a_requester() as (requester, models):
        done = 0

        async def ask() -> None:
            nonlocal done
            answer = await requester.open(THEM, a_request())
            assert [chunk.data async for chunk in answer] == [b"a", b"b"]
            await answer.aclose()
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            assert (len(models.answers), done) == (60, 0)
            models.gate.set()
        assert (len(models.answers), done) == (200, 200)
        assert requester._admissions == {}


async def test_a_place_given_up_before_the_answer_began_stays_taken_for_a_while(autojump_clock: MockClock) -> None:
    async with a_requester() as (requester, models):
        models.silent = True
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(requester.open, THEM, a_request())
        for _ in range(30):
            with pytest.raises(DeadlineExceeded):
                await requester.open(THEM, a_request(deadline=trio.current_time() + 0.01))
        models.silent = False
        began = trio.current_time()
        answer = await requester.open(THEM, a_request())
        assert trio.current_time() - began == pytest.approx(30, abs=2)
        await answer.aclose()
        await trio.sleep(30)
        await (await requester.open(THEM, a_request())).aclose()
        assert requester._admissions == {}


@pytest.mark.parametrize("how", ["aclose", "break", "refuse", "cancel", "unknown"])
async def test_a_place_is_left_however_the_answer_ends(how: str) -> None:
    async with a_requester() as (requester, models):
        if how == "refuse":
            models.failure = ModelFailed("no")
            with pytest.raises(ModelFailed):
                await requester.open(THEM, a_request())
        elif how == "cancel":
            with trio.CancelScope() as scope:
                scope.cancel()
                await requester.open(THEM, a_request())
        elif how == "unknown":
            with pytest.raises(UnknownNode):
                await requester.open(PeerId("nobody"), a_request())
        else:
            answer = await requester.open(THEM, a_request())
            await answer.receive()
            assert requester._admissions[THEM].running == 1
            if how == "break":
                models.answers[0]._steps = [AnswerBroken("gone")]
                with pytest.raises(AnswerBroken):
                    await answer.receive()
            else:
                await answer.aclose()
        assert requester._admissions == {}


async def test_waiting_has_an_end_and_a_bound(autojump_clock: MockClock) -> None:
    async with a_requester() as (requester, _):
        held = [await requester.open(THEM, a_request()) for _ in range(60)]
        with pytest.raises(DeadlineExceeded, match="before peer them began its answer"):
            await requester.open(THEM, a_request(deadline=trio.current_time() + 5))
        async with trio.open_nursery() as nursery:
            for _ in range(1024):
                nursery.start_soon(requester.open, THEM, a_request())
            await wait_all_tasks_blocked()
            with pytest.raises(Busy, match="the queue is full") as caught:
                await requester.open(THEM, a_request())
            assert caught.value.retry_after is not None
            nursery.cancel_scope.cancel()
        for answer in held:
            await answer.aclose()
        assert requester._admissions == {}


async def test_only_chats_go_this_way() -> None:
    async with a_requester() as (requester, _):
        with pytest.raises(Unsupported, match="only chats"):
            await requester.open(THEM, a_request(kind=Kind.EMBEDDING))
