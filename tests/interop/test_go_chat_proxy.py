"""`/chat-proxy/0.0.1` with a Go node of the existing network, in both directions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.backends.openai_http import open_endpoints
from aicn.backends.peer_http import PeerHttp
from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError, AnswerBroken, Busy, ModelFailed, Unreachable
from aicn.p2p.host import Host
from aicn.services.legacy.proxy import ProxyRequester, ProxyWorker
from aicn.services.ports import Answer
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire.legacy.chat_proxy import PROTOCOL
from tests.fakes.endpoint import (
    Connection,
    FakeEndpoint,
    answers,
    http_chunk,
    open_fake_endpoint,
    open_scripted,
    response,
    stream_head,
)
from tests.fakes.hosts import full_address, open_test_host
from tests.fakes.stores import MemoryRegistrations
from tests.interop.gopeer import GoError, GoPeer, open_go_peer
from tests.interop.pairs import open_pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

LIMITS = Limits(concurrency=500)
BUSY = response(503, b'{"error":{"message":"scripted"}}', "application/json", "Retry-After: 7")
EVENT = b'data: {"choices":[]}\n\n'
READ_S = 0.3  # for Go to read what came before a reset, which takes back what was not read


@dataclass
class World:
    """Each side knows model M of project P: ours at `endpoint`, Go's where a test registers it."""

    host: Host
    go: GoPeer
    endpoint: FakeEndpoint
    registration: Registration
    requester: ProxyRequester

    async def go_asks(self, *, model: str = "M", **fields: Any) -> Any:
        return await self.go("proxy-chat", peer=self.host.id, project="P", model=model, text="hi", **fields)

    async def go_offers(self, url: str) -> None:
        await self.go("register", project="P", model="M", url=url)

    async def open(self, *, stream: bool, model: str = "M") -> Answer:
        asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        deadline = trio.current_time() + 60
        request = InferenceRequest("r", Kind.CHAT, "P", model, json.dumps(asked).encode(), stream, deadline)
        return await self.requester.open(PeerId(self.go.id), request)

    async def ask(self, *, stream: bool, model: str = "M") -> bytes:
        answer = await self.open(stream=stream, model=model)
        try:
            return b"".join([chunk.data async for chunk in answer])
        finally:
            await answer.aclose()


@asynccontextmanager
async def a_world(program: Path, *flags: str, **endpoint: Any) -> AsyncIterator[World]:
    async with (
        open_pair(program, "-legacy", "-pubsub", "floodsub", *flags) as pair,
        open_fake_endpoint(**endpoint) as fake,
        open_endpoints(LIMITS) as endpoints,
    ):
        registration = Registration(MemoryRegistrations())
        await registration.register("P", [Endpoint("P", "M", fake.url)])
        worker = Worker(registration, endpoints, LIMITS, request_bytes=2**20)
        pair.host.serve(PROTOCOL, ProxyWorker(worker, LIMITS, body_bytes=2**20).serve)
        yield World(pair.host, pair.go, fake, registration, ProxyRequester(pair.host, PeerHttp(LIMITS)))


async def break_off(connection: Connection) -> None:
    """An endpoint that dies inside a chunk."""
    await connection.receive_request()
    await connection.send(stream_head() + http_chunk(EVENT) + b"64\r\nhalf")
    await trio.sleep(READ_S)


def said(answer: Any) -> str:
    return "".join(piece["text"] for piece in answer["pieces"])


async def test_go_is_answered_plain_and_streamed(go_program: Path) -> None:
    async with a_world(go_program) as world:
        plain = await world.go_asks()
        assert (plain["status"], plain["reason"], plain["end"]) == (200, "200 X", "EOF")
        assert plain["headers"]["Content-Type"] == ["application/json"]
        assert plain["headers"]["Content-Length"] == [str(len(said(plain).encode()))]
        assert json.loads(said(plain))["choices"][0]["message"]["content"] == world.endpoint.text
        streamed = await world.go_asks(stream=True)
        assert (streamed["status"], streamed["end"]) == (200, "EOF")
        assert streamed["headers"]["Content-Type"] == ["text/event-stream; charset=utf-8"]
        assert said(streamed).count("data: ") == world.endpoint.tokens + 2
        assert said(streamed).endswith("data: [DONE]\n\n")


async def test_a_token_every_20_ms_reaches_go_every_20_ms(go_program: Path) -> None:
    async with a_world(go_program, tokens=40, delay_s=0.02) as world:
        pieces = (await world.go_asks(stream=True))["pieces"]
        gaps = sorted(later["ms"] - sooner["ms"] for sooner, later in zip(pieces, pieces[1:], strict=False))
        assert len(pieces) >= 35
        assert gaps[len(gaps) // 2] < 40


async def test_an_endpoint_s_refusal_reaches_go_as_it_is(go_program: Path) -> None:
    async with a_world(go_program) as world, open_scripted(answers(BUSY)) as busy:
        await world.registration.register("P", [Endpoint("P", "M", busy.url())])
        for stream in (False, True):
            refused = await world.go_asks(stream=stream)
            assert (refused["status"], refused["reason"], refused["end"]) == (503, "503 X", "EOF")
            assert refused["headers"]["Retry-After"] == ["7"]
            assert said(refused) == '{"error":{"message":"scripted"}}'


async def test_what_go_cannot_have_is_reset_and_what_breaks_off_does_not_look_complete(go_program: Path) -> None:
    async with a_world(go_program) as world, open_scripted(break_off) as broken:
        with pytest.raises(GoError, match="reset"):
            await world.go_asks(model="other")
        await world.registration.register("P", [Endpoint("P", "M", broken.url())])
        cut = await world.go_asks(stream=True)
        assert (cut["status"], said(cut)) == (200, EVENT.decode())
        assert "reset" in cut["end"]
        await world.registration.register("P", [Endpoint("P", "M", "http://127.0.0.1:1/")])
        with pytest.raises(GoError, match="reset"):
            await world.go_asks()


async def test_go_s_hang_up_stops_the_endpoint(go_program: Path) -> None:
    async with a_world(go_program, tokens=10_000, delay_s=0.02) as world:
        assert (await world.go_asks(stream=True, count=1))["end"] == "hung up"
        await world.endpoint.wait_cancelled()


async def test_150_streams_from_go_at_once(go_program: Path) -> None:
    async with a_world(go_program, tokens=20, delay_s=0.02) as world:
        fields: dict[str, Any] = {"project": "P", "model": "M", "text": "hi", "stream": True}
        result = await world.go("load", peer=world.host.id, count=150, clients=150, **fields)
        assert result["failed"] == {}
        assert len(result["times_ms"]) == 150


async def test_go_answers_plain_and_streamed(go_program: Path) -> None:
    async with a_world(go_program) as world:
        await world.go_offers(world.endpoint.url)
        for stream in (False, True):
            answer = await world.open(stream=stream)
            assert answer.node == world.go.id
            text = b"".join([chunk.data async for chunk in answer])
            await answer.aclose()
            assert (b"data: [DONE]" in text) is stream
            assert answer.end is not None
            assert answer.end.finish_reason == "stop"
            assert answer.end.usage is not None
            assert answer.end.usage.completion_tokens == world.endpoint.tokens
        assert [json.loads(body)["stream"] for body in world.endpoint.bodies] == [False, True]


async def test_go_s_tokens_come_one_by_one_and_our_hang_up_stops_its_endpoint(go_program: Path) -> None:
    async with a_world(go_program, tokens=10_000, delay_s=0.02) as world:
        await world.go_offers(world.endpoint.url)
        answer = await world.open(stream=True)
        pieces = [(await answer.receive()).data for _ in range(20)]  # a busy machine may put two into one
        assert all(f"tok{number} ".encode() in b"".join(pieces) for number in range(20))
        assert max(piece.count(b"data: ") for piece in pieces) < 10
        await answer.aclose()
        await world.endpoint.wait_cancelled()


async def test_what_go_answers_instead_of_an_answer(go_program: Path) -> None:
    async with a_world(go_program) as world, open_scripted(answers(BUSY)) as busy, open_scripted(break_off) as broken:
        for stream in (False, True):
            with pytest.raises(ModelFailed, match="has no such one, or its endpoint is down"):
                await world.ask(stream=stream)
        await world.go_offers("http://127.0.0.1:1/")
        with pytest.raises(ModelFailed, match="its endpoint is down"):
            await world.ask(stream=False)
        await world.go_offers(busy.url())
        with pytest.raises(Busy, match=r"\(status 503\): scripted") as caught:
            await world.ask(stream=False)
        assert caught.value.retry_after == 7
        await world.go_offers(broken.url())
        with pytest.raises(AnswerBroken, match="before it was complete"):
            await world.ask(stream=True)


async def test_200_requests_at_once_to_a_go_node_that_takes_64(go_program: Path) -> None:
    async with a_world(go_program, "-resource-limits", tokens=5, delay_s=0.02) as world:
        await world.go_offers(world.endpoint.url)
        failed: list[AicnError] = []

        async def ask() -> None:
            try:
                assert (await world.ask(stream=True)).endswith(b"[DONE]\n\n")
            except AicnError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask)
        assert failed == []
        assert world.endpoint.total == 200


@pytest.mark.parametrize(
    "limits", [{}, {"relay_circuit_s": 60.0, "relay_circuit_bytes": 200_000}], ids=["unlimited", "limited"]
)
async def test_a_go_node_behind_a_relay(go_program: Path, limits: dict[str, Any]) -> None:
    async with (
        open_test_host(relay_service=True, **limits) as relay,
        open_go_peer(go_program, "-legacy", "-pubsub", "floodsub", "-listen", "") as go,
        open_test_host(listen=(), relay_client="off") as host,
        open_fake_endpoint() as endpoint,
    ):
        address = full_address(relay)
        await go("connect", address=address)
        await go("reserve", address=address)
        await go("register", project="P", model="M", url=endpoint.url)
        await host.connect(f"{address}/p2p-circuit/p2p/{go.id}")
        asking = World(host, go, endpoint, Registration(MemoryRegistrations()), ProxyRequester(host, PeerHttp(LIMITS)))
        if limits:
            with trio.fail_after(5), pytest.raises(Unreachable, match="only through a relay that limits connections"):
                await asking.ask(stream=True)
        else:
            assert (await asking.ask(stream=True)).endswith(b"[DONE]\n\n")
