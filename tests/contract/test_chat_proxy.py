"""Our two sides of `/chat-proxy/0.0.1` with each other and with real endpoints, on streams in memory and on libp2p over loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from aicn.backends.openai_http import open_endpoints
from aicn.backends.peer_http import PeerHttp
from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError, AnswerBroken, Busy, InvalidRequest, ModelFailed, Unsupported
from aicn.services.legacy.proxy import ProxyRequester, ProxyWorker
from aicn.services.ports import Answer, Peers
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire.legacy.chat_proxy import PROTOCOL
from tests.fakes.endpoint import (
    Connection,
    Script,
    answers,
    http_chunk,
    open_fake_endpoint,
    open_scripted,
    response,
    stream_head,
)
from tests.fakes.hosts import full_address, open_test_host
from tests.fakes.peers import MemoryNetwork
from tests.fakes.stores import MemoryRegistrations

LIMITS = Limits(concurrency=500)
ERROR = b'{"error": {"message": "why not"}}'
EVENT = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"

Two = tuple[Peers, Peers]


@asynccontextmanager
async def memory_peers() -> AsyncIterator[Two]:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery)
        yield network.host("input"), network.host("worker")
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def libp2p_peers() -> AsyncIterator[Two]:
    async with open_test_host() as here, open_test_host() as there:
        await here.connect(full_address(there))
        yield here, there


@dataclass
class World:
    """A node that asks, and one that has the models of project P, each named like its endpoint's script."""

    worker: PeerId
    requester: ProxyRequester
    registration: Registration

    async def offer(self, *endpoints: Endpoint) -> None:
        await self.registration.register("P", endpoints)

    async def open(self, model: str = "M", *, stream: bool = True) -> Answer:
        body = json.dumps({"model": model, "messages": [], "stream": stream}).encode()
        request = InferenceRequest("r", Kind.CHAT, "P", model, body, stream, trio.current_time() + 30)
        return await self.requester.open(self.worker, request)

    async def read(self, model: str = "M", *, stream: bool = True) -> tuple[Answer, bytes]:
        answer = await self.open(model, stream=stream)
        try:
            return answer, b"".join([chunk.data async for chunk in answer])
        finally:
            await answer.aclose()


@pytest.fixture(params=[memory_peers, libp2p_peers])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    open_peers: Callable[[], AbstractAsyncContextManager[Two]] = request.param
    async with open_peers() as (here, there), open_endpoints(LIMITS) as endpoints:
        registration = Registration(MemoryRegistrations())
        worker = Worker(registration, endpoints, LIMITS, request_bytes=2**20)
        there.serve(PROTOCOL, ProxyWorker(worker, LIMITS, body_bytes=2**20).serve)
        yield World(there.id, ProxyRequester(here, PeerHttp(LIMITS)), registration)


async def test_an_answer_arrives_as_the_endpoint_gave_it(world: World) -> None:
    plain = b'{"choices":[{"message":{"content":"\xc3\xbc"},"finish_reason":"length"}],  "usage":{"total_tokens":3},"x":1e2}'
    streamed = stream_head("X-Own: 1", "Set-Cookie: a=b") + http_chunk(EVENT) + http_chunk(DONE) + http_chunk(b"")
    for stream, whole, body in (
        (False, response(201, plain, "application/json", "X-Own: 1"), plain),
        (True, streamed, EVENT + DONE),
    ):
        async with open_scripted(answers(whole)) as endpoint:
            await world.offer(Endpoint("P", "M", endpoint.url("/v1/chat?key=1"), api_key="secret"))
            answer, text = await world.read(stream=stream)
            assert text == body
            assert answer.head is not None
            assert (answer.head.status, answer.head.reason, answer.head.get(b"x-own")) == (
                200 + (not stream),
                "X" if not stream else "OK",
                "1",
            )
            assert answer.head.get(b"set-cookie") == ""
            assert answer.head.get(b"content-length") == ("" if stream else str(len(plain)))
            assert answer.end is not None
            assert answer.end.finish_reason == ("" if stream else "length")
            asked = endpoint.requests[0]
            assert (asked.method, asked.target) == ("POST", "/v1/chat?key=1")
            assert json.loads(asked.body)["stream"] is stream
            assert set(asked.headers) == {
                "host",
                "accept-encoding",
                "content-type",
                "accept",
                "authorization",
                "content-length",
            }


async def test_tokens_come_one_by_one(world: World) -> None:
    go_on, wait = trio.open_memory_channel[None](0)

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(stream_head())
        async for _ in wait:
            await connection.send(http_chunk(EVENT))
        await connection.send(http_chunk(DONE) + http_chunk(b""))

    async with open_scripted(script) as endpoint:
        await world.offer(Endpoint("P", "M", endpoint.url()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on.send, None)
            answer = await world.open()
            for _ in range(20):
                assert (await answer.receive()).data == EVENT
                await go_on.send(None)
            assert (await answer.receive()).data == EVENT
            await go_on.aclose()
            assert (await answer.receive()).data == DONE
            with pytest.raises(trio.EndOfChannel):
                await answer.receive()


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (answers(response(400, ERROR)), InvalidRequest, "refused the request (status 400): why not"),
        (answers(response(503, ERROR, "application/json", "Retry-After: 9")), Busy, "is busy (status 503): why not"),
        (answers(response(500, ERROR)), ModelFailed, "failed (status 500): why not"),
        (answers(response(200, b'{"code": 7, "message": "no"}')), ModelFailed, "failed"),
        (answers(b"220 no HTTP\r\n\r\n"), ModelFailed, "failed (status 502): the model endpoint"),
        (answers(response(401, b'{"message": "wrong key: secret"}')), ModelFailed, "failed (status 502): the model endpoint"),
    ],
)  # fmt: skip
async def test_an_endpoint_s_refusal_means_the_same_here_as_there(
    world: World, script: Script, kind: type[AicnError], message: str
) -> None:
    async with open_scripted(script) as endpoint:
        await world.offer(Endpoint("P", "M", endpoint.url(), api_key="secret"))
        for stream in (False, True):
            with pytest.raises(AicnError) as caught:
                await world.read(stream=stream)
            assert type(caught.value) is kind
            assert caught.value.message.startswith(f"peer {world.worker} {message}")
            assert "secret" not in caught.value.message
            assert caught.value.retry_after == (9 if kind is Busy else None)


async def test_no_such_model_and_nothing_behind_it(world: World) -> None:
    await world.offer(Endpoint("P", "down", "http://127.0.0.1:1/"))
    for model in ("down", "other"):
        with pytest.raises(ModelFailed, match="has no such one, or its endpoint is down"):
            await world.read(model)


async def test_an_answer_that_breaks_off(world: World) -> None:
    read = trio.Event()

    async def script(connection: Connection) -> None:
        await connection.receive_request()
        await connection.send(stream_head() + http_chunk(EVENT) + b"64\r\nhalf")
        await read.wait()

    async with open_scripted(script) as endpoint:
        await world.offer(Endpoint("P", "M", endpoint.url()))
        answer = await world.open()
        assert (await answer.receive()).data == EVENT
        read.set()
        with pytest.raises(AnswerBroken):
            await answer.receive()


async def test_a_hang_up_stops_the_endpoint(world: World) -> None:
    async with open_fake_endpoint(tokens=10_000, delay_s=0.01) as endpoint:
        await world.offer(Endpoint("P", "M", endpoint.url))
        answer = await world.open()
        await answer.receive()
        await answer.aclose()
        await endpoint.wait_cancelled()
        endpoint.first_s = 100
        with trio.move_on_after(0.2):
            await world.open()
        await endpoint.wait_cancelled(2)


async def test_two_hundred_at_once_wait_their_turn(world: World) -> None:
    async with open_fake_endpoint(tokens=5, delay_s=0.01) as endpoint:
        await world.offer(Endpoint("P", "M", endpoint.url))
        most = 0

        async def ask() -> None:
            nonlocal most
            _, text = await world.read()
            most = max(most, endpoint.open)
            assert text.endswith(DONE)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
        assert endpoint.total == 200
        assert most <= 60


async def test_a_node_that_does_not_speak_it() -> None:
    async with open_test_host() as here, open_test_host() as other:
        await here.connect(full_address(other))
        requester = ProxyRequester(here, PeerHttp(LIMITS))
        with pytest.raises(Unsupported):
            await World(other.id, requester, Registration(MemoryRegistrations())).open()
