from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.offers import NodeType
from aicn.domain.registration import Project
from aicn.errors import TooLarge
from aicn.services.legacy.heartbeats import NEWCOMERS_S, PAUSE_S, Heartbeats
from aicn.wire.legacy import bodies

EVERY_S = 180.0
SOMEBODY = PeerId("somebody")


@dataclass
class World:
    """A node's heartbeats, and when they were said."""

    projects: list[Project] = field(default_factory=list)
    members: list[PeerId] = field(default_factory=list)
    needed: bool = False
    said: list[tuple[float, tuple[Project, ...], NodeType]] = field(default_factory=list)
    began: float = 0.0

    def __post_init__(self) -> None:
        self.heartbeats = Heartbeats(
            cast("Any", self),
            lambda: self.projects,
            lambda: self.needed,
            lambda: self.members,
            node_type=NodeType.DIRECTORY,
            every_s=EVERY_S,
        )

    async def broadcast(self, body: bytes, text: str) -> None:
        assert text == "heartbeat"
        await trio.lowlevel.checkpoint()
        if len(self.projects) > 5:
            raise TooLarge("too much for a message")
        self.said.append((trio.current_time() - self.began, *bodies.decode_projects(body)))

    def come(self, *, legacy: bool) -> None:
        self.members.append(SOMEBODY)
        self.needed = self.needed or legacy
        self.heartbeats.met(legacy)

    @property
    def times(self) -> list[float]:
        return [at for at, *_ in self.said]


@asynccontextmanager
async def beating(world: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        world.began = trio.current_time()
        nursery.start_soon(world.heartbeats.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def test_at_once_when_there_is_somebody_and_again_and_again(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.heartbeats.changed()
        await trio.sleep(1000)
        assert world.said == []  # nobody to hear it
        world.come(legacy=True)
        await trio.sleep(2.5 * EVERY_S)
    assert world.times == pytest.approx([1000, 1000 + EVERY_S, 1000 + 2 * EVERY_S])


async def test_changes_are_told_at_once_but_at_most_twice_a_second(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.come(legacy=True)
        await trio.sleep(10)
        for number in range(100):
            world.projects[:] = [Project("P", (f"M{number}",))]
            world.heartbeats.changed()
            await trio.sleep(0.01)
        await trio.sleep(5)
    assert world.times == pytest.approx([0, 10, 10 + PAUSE_S, 10 + 2 * PAUSE_S])
    assert [node_type for *_, node_type in world.said] == [NodeType.DIRECTORY] + 3 * [
        NodeType.DIRECTORY | NodeType.MODEL
    ]
    assert world.said[-1][1] == (Project("P", ("M99",)),)


async def test_newcomers_hear_it_soon_and_a_crowd_of_them_together(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.come(legacy=True)
        await trio.sleep(30)
        for _ in range(50):
            world.come(legacy=True)
            await trio.sleep(0.1)
        await trio.sleep(30)
    assert world.times == pytest.approx([0, 30, 30 + NEWCOMERS_S, 30 + 2 * NEWCOMERS_S, 30 + 3 * NEWCOMERS_S])


async def test_where_nobody_needs_it_only_changes_are_told(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.come(legacy=False)
        await trio.sleep(3 * EVERY_S)
        world.come(legacy=False)
        await trio.sleep(3 * EVERY_S)
        assert world.times == [0]
        world.heartbeats.changed()
        await trio.sleep(3 * EVERY_S)
        assert len(world.said) == 2
        world.come(legacy=True)
        await trio.sleep(1.5 * EVERY_S)
    assert world.times[2:] == pytest.approx([9 * EVERY_S, 10 * EVERY_S])


async def test_the_first_that_needs_it_is_heard_of_from_afar(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.come(legacy=False)
        await trio.sleep(1000)
        world.heartbeats.heard_of_first(100)  # it was one of ours, whose offer has come since
        await trio.sleep(100)
        assert len(world.said) == 1
        world.needed = True
        world.heartbeats.heard_of_first(100)
        await trio.sleep(100)
    [_, second] = world.times
    assert 1100 <= second <= 1102


async def test_who_was_alone_tells_whoever_comes_first(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        world.come(legacy=False)
        await trio.sleep(10)
        world.members.clear()
        world.heartbeats.changed()
        await trio.sleep(10)
        assert len(world.said) == 2
        world.heartbeats.changed()
        world.come(legacy=False)  # who may know of others
        await trio.sleep(10)
    assert world.times == pytest.approx([0, 10, 20])


async def test_the_last_word_is_that_nothing_is_offered(autojump_clock: MockClock) -> None:
    world = World([Project("P", ("M",))])
    async with beating(world):
        world.come(legacy=True)
        await trio.sleep(1)
        await world.heartbeats.leave()
        world.heartbeats.changed()
        world.come(legacy=True)
        await world.heartbeats.leave()
        await trio.sleep(1000)
    assert [said[1:] for said in world.said] == [
        ((Project("P", ("M",)),), NodeType.DIRECTORY | NodeType.MODEL),
        ((), NodeType(0)),
    ]


async def test_what_cannot_be_said_ends_nothing(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    world = World([Project(f"P{number}", ("M",)) for number in range(6)])
    async with beating(world):
        world.come(legacy=True)
        await trio.sleep(1)
        assert "too much for a message" in caplog.text
        del world.projects[5:]
        world.heartbeats.changed()
        await trio.sleep(1)
    assert len(world.said) == 1


async def test_who_has_never_said_anything_takes_nothing_back(autojump_clock: MockClock) -> None:
    world = World()
    async with beating(world):
        await world.heartbeats.leave()
        world.come(legacy=True)
        await trio.sleep(10)
    assert world.said == []
