from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.nodes import PROTOCOL_VERSION, Connectivity, Link, NodeInfo
from aicn.domain.offers import NodeType, Offer, OfferedModel, OfferedProject
from aicn.domain.registration import Endpoint
from aicn.services.announcer import ANNOUNCE_S, PAUSE_S, Announcer, Offered
from aicn.services.catalog import Catalog
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import offers as wire
from tests.fakes.answers import ScriptedEndpoints
from tests.fakes.stores import MemoryRegistrations

OWN = PeerId("own")


@dataclass
class World:
    """A node's announcements, and when they were made."""

    projects: list[OfferedProject] = field(default_factory=list)
    members: list[PeerId] = field(default_factory=lambda: [PeerId("somebody")])
    said: list[tuple[float, Offer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalog = Catalog(OWN, lambda _: Link(Connectivity.NOT_CONNECTED, 0.0))
        self.announcer = Announcer(
            cast("Any", self),
            cast("Any", self),
            self.catalog,
            lambda: self.projects,
            topic="t",
            node_type=NodeType.DIRECTORY,
        )

    id = OWN

    def info(self) -> NodeInfo:
        return NodeInfo(OWN, PROTOCOL_VERSION, "v", (), ("/aicn/inference/1.0.0", "/ipfs/ping/1.0.0"))

    async def publish(self, topic: str, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        offer = wire.decode(data, OWN)
        assert topic == "t"
        assert isinstance(offer, Offer)
        self.said.append((trio.current_time(), offer))
        return data

    def subscribers(self, topic: str) -> list[PeerId]:
        return self.members

    def offer(self, in_flight: int = 0) -> None:
        self.projects[:] = [OfferedProject("P", (OfferedModel("M", Kind.CHAT, 4, in_flight),))]


@asynccontextmanager
async def announcing(world: World) -> AsyncIterator[float]:
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(world.announcer.run)
        await wait_all_tasks_blocked()
        yield began
        nursery.cancel_scope.cancel()


async def test_at_once_and_again_and_again(autojump_clock: MockClock) -> None:
    world = World()
    async with announcing(world) as began:
        await trio.sleep(2.5 * ANNOUNCE_S)
    assert [round(at - began) for at, _ in world.said] == [0, 30, 60]
    first = world.said[0][1]
    assert (first.projects, first.node_type) == ((), NodeType.DIRECTORY)
    assert first.protocols == ("/aicn/inference/1.0.0",)
    seqs = [offer.seq for _, offer in world.said]
    assert seqs == sorted(set(seqs))
    assert world.catalog.own_seq == seqs[-1]


async def test_changes_are_told_at_once_but_not_too_often(autojump_clock: MockClock) -> None:
    world = World()
    async with announcing(world) as began:
        await trio.sleep(10)
        for number in range(100):
            world.projects[:] = [OfferedProject("P", (OfferedModel(f"M{number}", Kind.CHAT),))]
            world.announcer.changed()
            assert [one.node for one in world.catalog.providers("P", f"M{number}", most=1)] == [OWN]
            await trio.sleep(0.01)
        await trio.sleep(5)
    times = [at - began for at, _ in world.said]
    assert times == pytest.approx([0, 10, 10 + PAUSE_S, 10 + 2 * PAUSE_S], abs=0.02)
    last = world.said[-1][1]
    assert last.projects == tuple(world.projects)
    assert last.node_type == NodeType.DIRECTORY | NodeType.MODEL


async def test_who_comes_later_hears_it_then(autojump_clock: MockClock) -> None:
    world = World(members=[])
    async with announcing(world) as began:
        await trio.sleep(5)
        assert len(world.said) == 1
        world.members = [PeerId("somebody")]
        await trio.sleep(2)
        world.members = [PeerId("somebody"), PeerId("another")]  # hears it from the first
        await trio.sleep(10)
    assert [int(at - began) for at, _ in world.said] == [0, 5]


async def test_a_full_model_is_told_and_that_it_has_room_again(autojump_clock: MockClock) -> None:
    world = World()
    world.offer()
    async with announcing(world):
        for in_flight in (1, 3, 4, 9, 3, 4, 3, 2, 3, 1):
            world.offer(in_flight)
            await trio.sleep(2)
    told = [offer.projects[0].models[0].in_flight for _, offer in world.said]
    assert told == [0, 4, 1]  # not each time that a place is free for a moment


async def test_leaving_is_the_last_word(autojump_clock: MockClock) -> None:
    world = World()
    world.offer()
    async with announcing(world):
        await trio.sleep(1)
        await world.announcer.leave()
        await world.announcer.leave()
        assert world.catalog.projects() == []
    left = [offer for _, offer in world.said if offer.leaving]
    assert left == [world.said[-1][1]]
    assert left[0].projects == ()


async def test_what_an_earlier_life_has_said_is_overtaken(autojump_clock: MockClock) -> None:
    world = World()
    async with announcing(world):
        await trio.sleep(1)
        echo = world.said[0][1]
        ahead = echo.seq + 10_000_000
        assert not world.catalog.take(replace(echo, seq=ahead))
        await trio.sleep(2)
    assert [offer.seq for _, offer in world.said] == [echo.seq, ahead + 1]


async def test_what_is_offered_is_what_is_registered_with_its_load() -> None:
    registration = Registration(MemoryRegistrations())
    worker = Worker(
        registration, ScriptedEndpoints(lambda _: [b"x"]), Limits(model_concurrency={"M": 2}), request_bytes=1000
    )
    url = "http://127.0.0.1:1/"
    await registration.register(
        "P",
        [
            Endpoint("P", "M", url),
            *(Endpoint("P", "M", url + str(tokens), context=tokens) for tokens in (8192, 4096)),
            Endpoint("P", "E", url, 3),
        ],
    )
    registration.set_own(Endpoint("own", "M", url, context=2048))
    request = InferenceRequest("r", Kind.CHAT, "P", "M", b"{}", stream=False, deadline=trio.current_time() + 60)
    answers = [worker.open(request) for _ in range(3)]
    assert Offered(registration, worker).projects() == [
        OfferedProject("P", (OfferedModel("M", Kind.CHAT, 2, 3, 4096), OfferedModel("E", Kind.EMBEDDING, 32, 0))),
        OfferedProject("own", (OfferedModel("M", Kind.CHAT, 2, 0, 2048),)),
    ]
    for answer in answers:
        await answer.aclose()
    assert Offered(registration, worker).projects()[0].models[0].in_flight == 0
