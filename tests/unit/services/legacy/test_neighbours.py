from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.domain.offers import NodeType, Offer, OfferedModel, OfferedProject
from aicn.domain.registration import Project
from aicn.errors import AicnError, DeadlineExceeded, ModelFailed, ProtocolViolation
from aicn.services.catalog import FRESH_S, Catalog
from aicn.services.legacy import neighbours as module
from aicn.services.legacy.neighbours import Neighbours
from aicn.wire import control
from aicn.wire.legacy import bodies, chat_proxy
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from tests.fakes.hosts import PEER_OF_NOBODY
from tests.fakes.links import ScriptedLinks

OWN, GO = PeerId("own"), PeerId(PEER_OF_NOBODY)
TOPIC = "t"
CAPTURED = json.loads((Path(__file__).parents[3] / "vectors" / "legacy" / "messages.json").read_text())["messages"]
PROJECTS = (Project("P", ("M", "N")),)
SERVER = NodeType.PUBLIC | NodeType.DIRECTORY


class World:
    """A node of ours, and what Go nodes say to it."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.now = 1_000_000.0
        self.links = ScriptedLinks()
        self.catalog = Catalog(OWN, self.links.link, clock=lambda: self.now)
        self.on_topic: list[PeerId] = []
        self.answers: list[bytes | AicnError] = []
        self.asked: list[PeerId] = []
        self.before_answer: Callable[[], None] = lambda: None  # what happens while a node is asked
        self.met: list[bool] = []
        self.first: list[int] = []
        self._tell: Callable[[str, PeerId], None] = lambda *_: None
        this = cast("Any", self)
        self.neighbours = Neighbours(
            this, self.links, this, self.catalog, topic=TOPIC, keeps=keeps, clock=lambda: self.now
        )
        self.neighbours.on_met(self.met.append)
        self.neighbours.on_first(self.first.append)

    # ---- the seams ----

    def subscribers(self, topic: str) -> Sequence[PeerId]:
        return self.on_topic if topic == TOPIC else ()

    def on_member(self, tell: Callable[[str, PeerId], None]) -> None:
        self._tell = tell

    async def ask(self, peer: PeerId, kind: Type, question: bytes, *, within_s: float) -> bytes:
        assert (kind, question) == (Type.AI_PROJECT, bodies.EMPTY_QUESTION)
        self.asked.append(peer)
        answer = self.answers.pop(0)
        if isinstance(answer, DeadlineExceeded):
            await trio.sleep(within_s)
        await trio.lowlevel.checkpoint()
        self.before_answer()
        if isinstance(answer, AicnError):
            raise answer
        return answer

    # ---- what happens ----

    def subscribe(self, peer: PeerId, topic: str = TOPIC) -> None:
        if topic == TOPIC:
            self.on_topic.append(peer)
        self._tell(topic, peer)

    def heartbeat(
        self, projects: Sequence[Project] = PROJECTS, *, ago: float = 0, node: PeerId = GO, node_type: NodeType = SERVER
    ) -> Message:
        """As it was said `ago` seconds ago, by the node's clock."""
        body = bodies.encode_projects(projects, node_type)
        said = Envelope(Type.AI_PROJECT, node, None, "", body, text="heartbeat", timestamp=int(self.now - ago))
        data = encode(said)
        return Message(TOPIC, node, data, b"signed " + data)

    def hear(self, message: Message) -> None:
        self.neighbours.heard(message, decode(message.data))

    def sees(self, project: str = "P") -> dict[str, list[str]]:
        """Models by node."""
        return {
            node: [model.name for one in offer.projects if one.name == project for model in one.models]
            for node in self.catalog.nodes()
            if (offer := self.catalog.offer(node)) is not None
        }

    def native(self, node: PeerId = GO) -> Offer:
        project = OfferedProject("P", (OfferedModel("native", None),))
        return Offer(node, int(self.now * 1000), self.now, self.now + 90, NodeType.MODEL, (project,))


@asynccontextmanager
async def living(world: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.neighbours.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


# ---- heartbeats ----


async def test_a_heartbeat_is_what_its_node_has_until_the_next_one() -> None:
    world = World()
    world.hear(world.heartbeat())
    assert world.sees() == {GO: ["M", "N"]}
    offer = world.catalog.offer(GO)
    assert offer is not None
    assert (offer.legacy, offer.node_type) == (True, SERVER | NodeType.MODEL)
    assert world.catalog.signed(GO) == world.heartbeat().signed  # others may have it
    assert world.first == [1]
    world.now += 10
    world.hear(world.heartbeat([Project("Q", ("M",))], node_type=SERVER | NodeType.MODEL))
    world.hear(world.heartbeat(ago=5))  # has come late
    assert (world.sees("P"), world.sees("Q")) == ({GO: []}, {GO: ["M"]})
    world.hear(
        world.heartbeat([], node_type=NodeType.MODEL)
    )  # in the same second: it has none, whatever it says of itself
    assert (world.sees("Q"), world.catalog.projects(), world.first) == ({GO: []}, [], [1])


async def test_captured_heartbeats_are_taken_also_two_of_one_second() -> None:
    world = World()
    captured = [bytes.fromhex(one["message_hex"]) for one in CAPTURED if one["label"].startswith("heartbeat")]
    for data in captured:
        said = decode(data)
        world.now = said.timestamp + 0.5
        world.neighbours.heard(Message(TOPIC, said.sender, data, data), said)
    offers = {node: offer for node in world.catalog.nodes() if (offer := world.catalog.offer(node)) is not None}
    assert len(offers) == len(captured) - 1  # the second one said more than the first, in the same second
    first = offers[decode(captured[0]).sender]
    assert [(one.name, [model.name for model in one.models]) for one in first.projects] == [
        ("P", ["M", "NoUsage"]),
        ("Empty", []),
    ]
    types = {NodeType.MODEL, NodeType(0), NodeType.PUBLIC | NodeType.DIRECTORY}
    assert {offer.node_type for offer in offers.values()} == types


async def test_a_heartbeat_says_nothing_of_a_node_that_makes_offers() -> None:
    world = World()
    world.hear(world.heartbeat())
    assert world.neighbours.any()
    assert world.catalog.take(world.native())
    assert (world.sees(), world.neighbours.any()) == ({GO: ["native"]}, False)
    world.now += 1
    world.hear(world.heartbeat())
    assert world.sees() == {GO: ["native"]}


async def test_clocks_may_be_wrong_but_not_by_days() -> None:
    world = World()
    for ago in (-4000, 4000, 1e9):
        world.hear(world.heartbeat(ago=ago))
        assert world.sees() == {}
    world.hear(world.heartbeat(ago=3000))
    assert world.sees() == {GO: ["M", "N"]}
    world.now += FRESH_S - 1
    assert world.sees() == {GO: ["M", "N"]}  # ten minutes by our own
    world.now += 1
    assert world.sees() == {GO: []}


async def test_what_others_repeat_lives_no_longer_than_it_would_have() -> None:
    world = World()
    old = world.heartbeat(ago=500)
    assert world.neighbours.repeated(old) == GO
    assert world.sees() == {GO: ["M", "N"]}
    world.now += 99
    assert world.neighbours.repeated(old) is None
    world.now += 1
    assert world.sees() == {GO: []}
    assert world.neighbours.repeated(old) is None
    assert world.neighbours.repeated(world.heartbeat(ago=-100)) is None  # of the future: would live longer
    known_only = world.heartbeat(node=OWN_ID, ago=7000)
    assert world.neighbours.repeated(known_only) == OWN_ID
    assert world.sees() == {GO: [], OWN_ID: []}
    assert world.neighbours.repeated(world.heartbeat()) == GO  # a newer one
    assert world.sees()[GO] == ["M", "N"]


OWN_ID = PeerId("16Uiu2HAmBdhBRgoGEjAUoJj1yR7WxV4R9xqfRzDzA7hAdaUGxvTS")


async def test_what_is_no_heartbeat_is_not_taken_for_one() -> None:
    world = World()
    good = world.heartbeat()
    in_the_name_of_another = Message(TOPIC, OWN_ID, good.data, good.signed)
    question = encode(Envelope(Type.AI_PROJECT, GO, OWN_ID, "id", bodies.EMPTY_QUESTION))
    other_type = encode(Envelope(Type.HOST_INFO, GO, None, "", b""))
    for message in (
        in_the_name_of_another,
        *(Message(TOPIC, GO, data) for data in (b"", b"junk", question, other_type)),
    ):
        with pytest.raises(ProtocolViolation):
            world.neighbours.repeated(message)
    for body in (b"", b"junk", bodies.EMPTY_QUESTION):
        broken = Message(TOPIC, GO, encode(Envelope(Type.AI_PROJECT, GO, None, "", body, timestamp=int(world.now))))
        for take in (world.hear, world.neighbours.repeated):
            with pytest.raises(ProtocolViolation):
                take(broken)
    assert world.sees() == {}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(-(2**63), 2**63 - 1))
async def test_hostile_heartbeats_raise_nothing_else(body: bytes, timestamp: int) -> None:
    world = World()
    message = Message(TOPIC, GO, encode(Envelope(Type.AI_PROJECT, GO, None, "", body, timestamp=timestamp)), b"signed")
    for take in (world.hear, world.neighbours.repeated):
        try:
            take(message)
        except ProtocolViolation:
            continue
        assert len(world.catalog.nodes()) <= 1


async def test_one_node_cannot_keep_us_busy_and_large_ones_are_not_handed_on() -> None:
    world = World()
    huge = [Project(f"P{number}", tuple(f"{name}{'x' * 100}" for name in range(20))) for number in range(100)]
    message = world.heartbeat(huge)
    assert len(message.signed) > 128 * 1024
    world.hear(message)
    assert (len(world.catalog.projects()), world.catalog.signed(GO)) == (100, b"")
    for number in range(200):
        world.hear(world.heartbeat([Project(f"{number}", ("M",))], ago=-number))
    [last] = world.catalog.projects()
    assert 90 < int(last) < 110


async def test_a_node_without_a_directory_hears_nothing_and_cannot_know_who_needs_it() -> None:
    world = World(keeps=False)
    world.hear(world.heartbeat())
    assert world.neighbours.repeated(world.heartbeat()) is None
    assert (world.sees(), world.neighbours.any()) == ({}, True)


# ---- who comes ----


async def test_who_comes_is_asked_once_it_is_known_what_it_is(autojump_clock: MockClock) -> None:
    world = World()
    world.answers = [bodies.encode_projects(PROJECTS)]
    async with living(world):
        world.links.connect(GO)
        world.subscribe(GO)
        await wait_all_tasks_blocked()
        assert (world.asked, world.met) == ([], [False])
        world.links.identify(GO, chat_proxy.PROTOCOL)
        await trio.sleep(2)
        assert (world.asked, world.met, world.first) == ([GO], [False, True], [1])
        assert world.sees() == {GO: ["M", "N"]}
        assert world.neighbours.any()
        world.now += 1
        world.hear(world.heartbeat([]))  # whatever its clock says: the answer had no time
        assert world.sees() == {GO: []}


async def test_an_answer_does_not_undo_the_heartbeat_that_overtook_it(autojump_clock: MockClock) -> None:
    world = World()
    world.answers = [bodies.encode_projects((Project("P", ("old",)),))]
    world.before_answer = lambda: world.hear(world.heartbeat())
    async with living(world):
        world.links.connect(GO)
        world.links.identify(GO, chat_proxy.PROTOCOL)
        world.subscribe(GO)
        await trio.sleep(2)
        assert world.asked == [GO]
        assert world.sees() == {GO: ["M", "N"]}


async def test_who_speaks_our_protocols_or_other_topics_is_not_asked(autojump_clock: MockClock) -> None:
    world = World()
    async with living(world):
        world.links.join(OWN_ID, control.PROTOCOL, chat_proxy.PROTOCOL)
        world.subscribe(OWN_ID)
        world.links.join(GO, chat_proxy.PROTOCOL)
        world.subscribe(GO, "another topic")
        await trio.sleep(5)
    assert (world.asked, world.met, world.neighbours.any()) == ([], [False], False)


async def test_who_was_there_before_is_asked_too(autojump_clock: MockClock) -> None:
    world = World()
    world.answers = [bodies.encode_projects(PROJECTS)]
    world.links.join(GO, chat_proxy.PROTOCOL)
    world.on_topic.append(GO)
    async with living(world):
        await trio.sleep(1)
    assert world.sees() == {GO: ["M", "N"]}


async def test_who_does_not_answer_is_asked_again_and_who_refuses_is_not(autojump_clock: MockClock) -> None:
    silent, answer = DeadlineExceeded("x"), bodies.encode_projects(PROJECTS)
    cases: list[tuple[list[bytes | AicnError], int]] = [
        ([silent, answer], 2),
        ([silent, silent], 2),
        ([ModelFailed("x")], 1),
        ([b"junk"], 1),
    ]
    for answers, asked in cases:
        world = World()
        world.answers = list(answers)
        async with living(world):
            world.links.join(GO, chat_proxy.PROTOCOL)
            world.subscribe(GO)
            await trio.sleep(30)
        assert len(world.asked) == asked
        assert bool(world.sees()) is (answers[-1] == answer)


async def test_who_leaves_or_makes_itself_known_is_not_asked(autojump_clock: MockClock) -> None:
    world = World()
    world.answers = [DeadlineExceeded("x"), DeadlineExceeded("x")]
    async with living(world):
        for node in (GO, OWN_ID):
            world.links.join(node, chat_proxy.PROTOCOL)
            world.subscribe(node)
        await trio.sleep(1)
        world.on_topic.remove(OWN_ID)
        world.hear(world.heartbeat())
        world.now += 1
        await trio.sleep(30)
    assert world.asked == [GO, OWN_ID]


async def test_a_node_that_comes_back_has_what_it_has_now(autojump_clock: MockClock) -> None:
    world = World()
    world.answers = [bodies.encode_projects([Project("P", (f"M{life}",))]) for life in range(3)]
    async with living(world):
        for life in range(3):
            world.links.join(GO, chat_proxy.PROTOCOL)
            world.subscribe(GO)
            await trio.sleep(1.5)
            world.now += 3
            assert world.sees() == {GO: [f"M{life}"]}
            world.on_topic.remove(GO)
            world.links.lose(GO)


async def test_a_crowd_is_asked_at_a_pace_that_the_network_bears(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    crowd = [PeerId(os.urandom(8).hex()) for _ in range(100)]
    world.answers = [bodies.encode_projects(PROJECTS)] * 100
    async with living(world):
        for node in crowd:
            world.links.join(node, chat_proxy.PROTOCOL)
            for _ in range(20):
                world.subscribe(node)
        await trio.sleep(2.5)
        assert 8 <= len(world.asked) <= 4 * module._AT_ONCE
        await trio.sleep(20)
        assert set(world.asked) == set(crowd)
        assert sorted(world.sees()) == sorted(crowd)
    assert len(world.met) <= 6 * len(crowd)
