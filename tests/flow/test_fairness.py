"""Several peers ask one worker for more than it has places for: who waits how long, what they are told, who keeps places in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Chunk, InferenceRequest, Kind
from aicn.domain.registration import Endpoint
from aicn.errors import Busy, DeadlineExceeded, ProtocolViolation
from aicn.services.inference import Inference
from aicn.services.ports import Answer
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import inference as wire
from tests.fakes.answers import ScriptedEndpoints
from tests.fakes.peers import MemoryNetwork, MemoryPeers
from tests.fakes.stores import MemoryRegistrations

WORKER, VICTIM, FLOOD = PeerId("worker"), PeerId("victim"), PeerId("flood")
ENDPOINT = Endpoint("P", "M", "http://127.0.0.1:1/v1/chat/completions")


class SlowEndpoints(ScriptedEndpoints):
    """Each answer begins after a second."""

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        await trio.sleep(1)
        return await super().open(endpoint, request)


class World(NamedTuple):
    peers: dict[PeerId, MemoryPeers]
    askers: dict[PeerId, Inference]
    endpoints: ScriptedEndpoints
    nursery: trio.Nursery

    async def ask(self, who: PeerId, **changes: Any) -> Answer:
        return await self.askers[who].open(WORKER, a_request(**changes))

    async def flood(self, count: int) -> None:
        """So many requests of one peer, which takes its answers."""
        for _ in range(count):
            self.nursery.start_soon(all_of, await self.ask(FLOOD))


def a_request(*, stream: bool = True, within: float = 1000) -> InferenceRequest:
    return InferenceRequest("r", Kind.CHAT, "P", "M", b"{}", stream=stream, deadline=trio.current_time() + within)


@asynccontextmanager
async def a_world(limits: Limits, *, steps: tuple[bytes, ...] = (b"a",), window: int = 4096) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork(nursery, window=window)
        peers = {name: network.host(name) for name in (WORKER, VICTIM, FLOOD)}
        registration = Registration(MemoryRegistrations())
        await registration.register("P", [ENDPOINT])
        endpoints = SlowEndpoints(lambda _: steps)
        worker = Worker(registration, endpoints, limits, request_bytes=1000)
        peers[WORKER].serve(wire.PROTOCOL, worker.serve)
        yield World(peers, {name: Inference(peers[name], worker, limits) for name in peers}, endpoints, nursery)
        nursery.cancel_scope.cancel()


async def all_of(answer: Answer) -> list[Chunk]:
    return [chunk async for chunk in answer]


@pytest.mark.parametrize("who", [VICTIM, WORKER], ids=["another peer", "the worker's own gateway"])
async def test_a_flood_of_one_peer_costs_others_a_place_and_no_more(who: PeerId, autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=2, queue=200)) as world:
        await world.flood(100)
        await trio.sleep(3.5)
        began = trio.current_time()
        answer = await world.ask(who)
        await all_of(answer)
        assert trio.current_time() - began <= 2.01  # one for a place, one for the answer
        assert answer.end is not None
        assert answer.end.queued_ms <= 1001


async def test_a_flood_that_fills_the_queue_keeps_nobody_out(autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=1, queue=5)) as world:
        waiting = [await world.ask(FLOOD) for _ in range(6)]
        with pytest.raises(Busy):
            await world.ask(FLOOD)
        answer = await world.ask(VICTIM)
        with pytest.raises(Busy, match="queue is full") as told:
            await all_of(waiting[-1])
        assert told.value.retry_after is not None
        assert (await all_of(answer))[-1] == Chunk(b"a")


@pytest.mark.parametrize("who", [VICTIM, WORKER], ids=["remote", "local"])
async def test_who_waits_for_a_streamed_answer_is_told_how_long(who: PeerId, autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=1, queue=10)) as world:
        for _ in range(3):
            world.nursery.start_soon(all_of, await world.ask(who))
        await wait_all_tasks_blocked()
        answer = await world.ask(who)
        first = await answer.receive()
        assert first == Chunk(b": queued position=3 eta=3.0s\n\n", comment=True)
        began, told = trio.current_time(), await all_of(answer)
        assert [chunk.comment for chunk in told] == [True] * (len(told) - 1) + [False]
        assert len(told) - 1 <= trio.current_time() - began
        assert told[-1] == Chunk(b"a")


@pytest.mark.parametrize("who", [VICTIM, WORKER], ids=["remote", "local"])
async def test_a_plain_answer_has_no_news(who: PeerId, autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=1, queue=10)) as world:
        await world.flood(3)
        answer = await world.ask(who, stream=False)
        assert answer.accepted.queue_position
        assert await all_of(answer) == [Chunk(b"a")]


async def test_what_would_come_too_late_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=1, queue=50)) as world:
        await world.flood(20)
        await trio.sleep(5.5)
        began = trio.current_time()
        with pytest.raises(Busy) as refusal:
            await world.ask(FLOOD, within=8)
        assert trio.current_time() == began
        assert refusal.value.retry_after == pytest.approx(15, abs=2)
        await all_of(await world.ask(VICTIM, within=8))


async def test_who_leaves_the_queue_frees_its_place(autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=1, queue=3)) as world:
        await world.flood(3)
        leaves = await world.ask(VICTIM)
        with pytest.raises(Busy):
            await world.ask(FLOOD)
        await leaves.aclose()
        await wait_all_tasks_blocked()
        assert (await world.ask(FLOOD)).accepted.queue_position == 3


async def test_an_answer_that_nobody_takes_gives_its_place_to_others(autojump_clock: MockClock) -> None:
    async with a_world(Limits(concurrency=2, queue=10), steps=(bytes(1000),) * 100) as world:
        held = [await world.ask(FLOOD) for _ in range(2)]
        await trio.sleep(30)
        assert not any(answer.closed for answer in world.endpoints.answers)  # nobody wants the places
        began = trio.current_time()
        assert sum(len(chunk.data) for chunk in await all_of(await world.ask(VICTIM)) if not chunk.comment) == 100_000
        assert trio.current_time() - began <= 3
        assert [answer.closed for answer in world.endpoints.answers[:2]].count(True) == 1  # no more than is needed
        told = [await _end_of(answer) for answer in held]
        assert sorted(told) == ["", "the requester took nothing for 10 s while others waited for the place"]


async def _end_of(answer: Answer) -> str:
    try:
        await all_of(answer)
    except DeadlineExceeded as error:
        return error.message
    return ""


async def _said(world: World, *frames: bytes, stream: bool = True) -> list[Chunk]:
    """What a requester makes of these frames of a worker."""

    async def liar(stream: Any) -> None:
        while await stream.receive_some():
            pass
        await stream.send_all(wire.encode_accepted(Accepted(queue_position=1)))
        for frame in frames:
            await stream.send_all(frame)
            await trio.sleep(10)

    world.peers[WORKER].serve(wire.PROTOCOL, liar)
    return await all_of(await world.ask(VICTIM, stream=stream))


@pytest.mark.parametrize("data", [b"data: 1\n\n", b": a\n\ndata: 1\n\n", b": a\r\n\n", b": a", b"", b":" + bytes(300)])
async def test_only_a_comment_may_say_that_it_is_one(data: bytes, autojump_clock: MockClock) -> None:
    async with a_world(Limits()) as world:
        with pytest.raises(ProtocolViolation, match="comment"):
            await _said(world, wire.encode_chunk(Chunk(data, comment=True)))


async def test_a_plain_answer_may_hold_no_comment(autojump_clock: MockClock) -> None:
    async with a_world(Limits()) as world:
        with pytest.raises(ProtocolViolation, match="no stream"):
            await _said(world, wire.encode_chunk(Chunk(b": a\n\n", comment=True)), stream=False)


async def test_news_alone_do_not_go_on_for_ever(autojump_clock: MockClock) -> None:
    async with a_world(Limits(queue_s=10, first_byte_s=20, gap_s=20)) as world:
        with pytest.raises(DeadlineExceeded, match="within 60 s"):
            await _said(world, *[wire.encode_chunk(Chunk(b": wait\n\n", comment=True))] * 100)
        assert trio.current_time() == pytest.approx(60, abs=1)
