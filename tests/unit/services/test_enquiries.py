from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import Lost, NodeType, Offer, OffersAsked, OffersPage
from aicn.errors import AicnError, Busy, DeadlineExceeded, UnknownNode, Unreachable, Unsupported
from aicn.services.catalog import Catalog
from aicn.services.enquiries import Enquiries
from aicn.wire import control
from aicn.wire import offers as wire
from tests.fakes.hosts import PEER_OF_NOBODY

OWN, OTHER, NODE = PeerId("own"), PeerId("other"), PeerId(PEER_OF_NOBODY)


class World:
    """A node that holds an offer of NODE, and what it asks and says."""

    def __init__(self) -> None:
        self.catalog = Catalog(OWN, self.link)
        self.connected: set[PeerId] = {OTHER}
        self.members = [OTHER]
        self.answer: AicnError | float = 0.0  # of NODE: an error, or after so many seconds
        self.reached = False  # whether NODE can be dialled
        self.asked: list[tuple[PeerId, OffersAsked]] = []
        self.said: list[Lost | Offer] = []
        this = cast("Any", self)
        self.enquiries = Enquiries(this, this, this, self.catalog, lambda *_: None, topic="t")
        now = time.time()
        self.offer = Offer(NODE, 5, now, now + 90, NodeType.MODEL, ())
        self.catalog.take(self.offer)

    def link(self, node: PeerId) -> Link:
        return Link(Connectivity.CONNECTED if node in self.connected else Connectivity.NOT_CONNECTED, 0.0)

    async def measure(self, node: PeerId) -> Link:
        assert isinstance(self.answer, float)
        await trio.sleep(self.answer)
        if self.reached:
            self.connected.add(node)
        return self.link(node)

    def protocols_of(self, peer: PeerId) -> frozenset[str]:
        return frozenset({control.PROTOCOL} if peer != "go" else ())

    def subscribers(self, topic: str) -> list[PeerId]:
        return self.members

    async def offers_of(self, node: PeerId, asked: OffersAsked) -> OffersPage:
        self.asked.append((node, asked))
        if isinstance(self.answer, AicnError):
            await trio.lowlevel.checkpoint()
            raise self.answer
        await trio.sleep(self.answer)
        return OffersPage()

    async def publish(self, topic: str, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.said.append(wire.decode(data, OWN))
        return data

    @property
    def holds(self) -> bool:
        return self.catalog.offer(NODE) is not None


@asynccontextmanager
async def asking(world: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.enquiries.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def test_who_does_not_answer_is_dropped_and_others_are_told(autojump_clock: MockClock) -> None:
    for answer in (Unreachable("x"), UnknownNode("x"), DeadlineExceeded("x"), 60.0):
        world = World()
        world.answer = answer
        async with asking(world):
            world.enquiries.lost(NODE)
            await trio.sleep(3)
        assert world.asked == [(NODE, OffersAsked(only=NODE))]
        assert not world.holds
        assert world.said == [Lost(NODE, 5)]
        assert not world.catalog.take(world.offer)


async def test_a_node_of_the_existing_network_is_there_if_it_can_be_reached(autojump_clock: MockClock) -> None:
    for reached, takes_s in ((True, 0.0), (True, 2.0), (False, 0.0), (True, 60.0)):
        world = World()
        world.offer = replace(world.offer, seq=7, expires=time.time() + 600, legacy=True)
        world.catalog = Catalog(OWN, world.link)
        assert world.catalog.hear(world.offer)
        this = cast("Any", world)
        world.enquiries = Enquiries(this, this, this, world.catalog, lambda *_: None, topic="t")
        world.answer = takes_s
        world.reached = reached
        async with asking(world):
            world.enquiries.lost(NODE)
            await trio.sleep(4)
        assert world.asked == []  # it speaks nothing of ours
        there = reached and takes_s < 60
        assert world.holds is there
        assert len(world.said) == int(not there)
        for lost in world.said:  # whichever heartbeat others have heard
            assert isinstance(lost, Lost)
            assert time.time() * 1000 - 60_000 < lost.seq <= time.time() * 1000


async def test_any_answer_proves_that_a_node_is_there(autojump_clock: MockClock) -> None:
    for answer in (0.0, 2.0, Unsupported("x"), Busy("x")):
        world = World()
        world.answer = answer
        async with asking(world):
            world.enquiries.lost(NODE)
            await trio.sleep(3)
        assert world.holds
        assert world.said == []


async def test_who_is_alone_drops_it_and_does_not_insist(autojump_clock: MockClock) -> None:
    world = World()
    world.answer, world.members = Unreachable("x"), []
    async with asking(world):
        world.enquiries.lost(NODE)
        await trio.sleep(3)
    assert (world.holds, world.said) == (False, [])
    assert world.catalog.take(world.offer)


async def test_hearsay_leads_to_a_question_and_to_nothing_else(autojump_clock: MockClock) -> None:
    world = World()
    async with asking(world):
        assert not world.enquiries.said_to_be_lost(Lost(NODE, 4))  # an older offer is meant
        assert not world.enquiries.said_to_be_lost(Lost(OTHER, 9))  # none is held
        assert world.enquiries.said_to_be_lost(Lost(NODE, 5))
        assert world.enquiries.said_to_be_lost(Lost(NODE, 5))  # the same, while it is asked
        await trio.sleep(3)
        assert world.holds
        assert not world.enquiries.said_to_be_lost(Lost(NODE, 5))  # it has just answered
        await trio.sleep(60)
        world.connected.add(NODE)
        assert world.enquiries.said_to_be_lost(Lost(NODE, 5))  # others may not be connected
        await trio.sleep(3)
        assert len(world.asked) == 1
        world.connected.discard(NODE)
        world.answer = Unreachable("x")
        assert world.enquiries.said_to_be_lost(Lost(NODE, 5))
        await trio.sleep(3)
    assert (world.holds, world.said) == (False, [])  # whoever said it has told the others


async def test_a_connection_that_comes_and_goes_is_not_followed_for_ever(autojump_clock: MockClock) -> None:
    world = World()
    async with asking(world):
        for _ in range(20):
            world.enquiries.lost(NODE)
            await trio.sleep(1)
    assert len(world.asked) == 4


async def test_peers_that_join_are_asked_and_soon_enough_is_known(autojump_clock: MockClock) -> None:
    world = World()
    async with asking(world):
        world.enquiries.joined(PeerId("go"))
        for number in range(5):
            world.enquiries.joined(PeerId(f"{number}"))
            await trio.sleep(0.1)
        assert [asked for _, asked in world.asked if not asked.only] == [OffersAsked()] * 3
        assert [node for node, asked in world.asked if asked.only == node] == [f"{number}" for number in range(5)]
        await trio.sleep(60)
        world.enquiries.joined(PeerId("late"))
        await trio.sleep(0.1)
        assert world.asked[-1] == ("late", OffersAsked())


class EndlessLists(World):
    """Peers have a page of offers more after each, and take three seconds for it."""

    async def offers_of(self, node: PeerId, asked: OffersAsked) -> OffersPage:
        await super().offers_of(node, asked)
        if asked.only:
            return OffersPage()
        await trio.sleep(3)
        return OffersPage((), more_after=asked.after + "x")


async def test_endless_lists_keep_nobody_waiting(autojump_clock: MockClock) -> None:
    world = EndlessLists()
    async with asking(world):
        for number in range(9):
            world.enquiries.joined(PeerId(f"{number}"))
        await trio.sleep(60)
    assert len({node for node, _ in world.asked}) == 9
