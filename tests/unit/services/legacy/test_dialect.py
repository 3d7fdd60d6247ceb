"""In which protocols a peer is asked."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.errors import DeadlineExceeded, UnknownNode, Unreachable
from aicn.services.legacy import dialect
from aicn.services.legacy.dialect import Dialect, Dialects
from aicn.services.ports import Peers
from aicn.wire import control, inference
from aicn.wire.legacy import chat_proxy
from tests.fakes.links import ScriptedLinks

PEER = PeerId("peer")
OURS = frozenset({control.PROTOCOL, inference.PROTOCOL})
GO = frozenset({chat_proxy.PROTOCOL, "/floodsub/1.0.0"})


class World:
    def __init__(self) -> None:
        self.links = ScriptedLinks()
        self.heard: set[PeerId] = set()
        self.dialects = Dialects(cast("Peers", self.links), self.links, self.heard.__contains__)

    async def of(self) -> Dialect:
        return await self.dialects.of(PEER)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "to be dialled"])
@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        (OURS, Dialect.NATIVE),
        (OURS | GO, Dialect.NATIVE),
        ({control.PROTOCOL}, Dialect.NATIVE),
        (GO, Dialect.PROXY),
        ({"/floodsub/1.0.0"}, Dialect.NATIVE),
    ],
)
async def test_what_a_peer_serves_decides(
    world: World, protocols: frozenset[str], expected: Dialect, connected: bool, autojump_clock: MockClock
) -> None:
    if connected:
        world.links.join(PEER, *protocols)
    else:
        world.links.dials[PEER] = frozenset(protocols)
    for _ in range(2):
        assert await world.of() is expected
    assert world.links.dialled == ([] if connected else [PEER])


async def test_one_that_is_heard_and_serves_nothing_of_use_is_asked_over_the_topic(world: World) -> None:
    world.links.join(PEER, "/floodsub/1.0.0")
    assert await world.of() is Dialect.NATIVE
    world.heard.add(PEER)  # its subscription may come after identify
    assert await world.of() is Dialect.TOPIC


async def test_what_was_known_before_is_found_as_well() -> None:
    links = ScriptedLinks()
    links.join(PEER, *GO)
    assert await Dialects(cast("Peers", links), links, lambda _: False).of(PEER) is Dialect.PROXY


async def test_an_identify_that_is_late(world: World, autojump_clock: MockClock) -> None:
    world.links.connect(PEER)
    found: list[Dialect] = []

    async def ask() -> None:
        found.append(await world.of())

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.sleep(dialect._IDENTIFY_S - 1)
        assert found == []
        world.links.identify(PEER, *GO)
        await wait_all_tasks_blocked()
        assert found == [Dialect.PROXY] * 3


@pytest.mark.parametrize(("heard", "expected"), [(True, Dialect.TOPIC), (False, Dialect.NATIVE)])
async def test_an_identify_that_never_comes(
    world: World, heard: bool, expected: Dialect, autojump_clock: MockClock
) -> None:
    world.links.dials[PEER] = None
    if heard:
        world.heard.add(PEER)
    assert await world.of() is expected
    assert trio.current_time() == pytest.approx(world.links.dial_s + dialect._IDENTIFY_S)
    world.links.identify(PEER, *GO)
    assert await world.of() is Dialect.PROXY


@pytest.mark.parametrize("heard", [True, False])
async def test_one_that_leaves_before_it_is_identified(world: World, heard: bool, autojump_clock: MockClock) -> None:
    world.links.connect(PEER)
    if heard:
        world.heard.add(PEER)
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(1)
            world.links.lose(PEER)

        nursery.start_soon(leave)
        if heard:
            assert await world.of() is Dialect.TOPIC
        else:
            with pytest.raises(Unreachable):
                await world.of()
    assert trio.current_time() == pytest.approx(1)


async def test_a_peer_may_come_back_as_another_program(world: World, autojump_clock: MockClock) -> None:
    world.links.join(PEER, *GO)
    assert await world.of() is Dialect.PROXY
    world.links.lose(PEER)
    world.links.dials[PEER] = OURS  # the peer book still has what it served before
    assert await world.of() is Dialect.NATIVE
    world.links.lose(PEER)
    world.links.join(PEER, *GO)
    assert await world.of() is Dialect.PROXY


async def test_what_a_peer_serves_may_change_while_it_is_connected(world: World) -> None:
    world.links.join(PEER, *GO)
    world.links.identify(PEER, *(GO | OURS))
    assert await world.of() is Dialect.NATIVE
    world.links.identify(PEER)
    world.heard.add(PEER)
    assert await world.of() is Dialect.TOPIC


@pytest.mark.parametrize("error", [UnknownNode, Unreachable, DeadlineExceeded])
async def test_one_that_cannot_be_dialled(world: World, error: type[Exception], autojump_clock: MockClock) -> None:
    world.links.dials[PEER] = error("no")  # type: ignore[assignment]
    with pytest.raises(error):
        await world.of()
    world.heard.add(PEER)
    assert await world.of() is Dialect.TOPIC


async def test_one_that_is_heard_is_dialled_only_now_and_then(world: World, autojump_clock: MockClock) -> None:
    world.heard.add(PEER)
    world.links.dial_s = 60
    for _ in range(3):
        assert await world.of() is Dialect.TOPIC
    assert trio.current_time() == pytest.approx(dialect._DIAL_S)
    assert world.links.dialled == [PEER]
    await trio.sleep(dialect._NO_DIAL_S)
    world.links.dial_s, world.links.dials[PEER] = 0.1, GO
    assert await world.of() is Dialect.PROXY


async def test_what_is_remembered_of_dials_is_bounded(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(dialect, "_MOST_UNDIALLED", 2)
    world = World()
    peers = [PeerId(f"peer{number}") for number in range(4)]
    world.heard.update(peers)
    for peer in (*peers, *peers):
        assert await world.dialects.of(peer) is Dialect.TOPIC
    assert len(world.links.dialled) == 8


async def test_a_peer_that_is_known_costs_no_turn_of_the_loop(world: World) -> None:
    world.links.join(PEER, *OURS)
    asked = world.dialects.of(PEER)
    with pytest.raises(StopIteration) as ended:
        asked.send(None)
    assert ended.value.value is Dialect.NATIVE
