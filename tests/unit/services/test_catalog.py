"""The catalog: whatever is said by whomever in whatever order, nothing lives longer than its node has signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.domain.ids import PeerId
from aicn.domain.inference import Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import LONGEST_LIFE_S, SKEW_S, NodeType, Offer, OfferedModel, OfferedProject
from aicn.services import catalog as module
from aicn.services.catalog import FRESH_S, KNOWN_S, Catalog

OWN = PeerId("own")
FAR = Link(Connectivity.NOT_CONNECTED, 0.0)


@dataclass
class World:
    """A catalog, its clock and the links to others."""

    now: float = 1_000_000.0
    links: dict[str, Link] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = Catalog(OWN, lambda node: self.links.get(node, FAR), clock=lambda: self.now)

    def offer(
        self,
        node: str = "a",
        seq: int = 1,
        *,
        life: float = 90.0,
        ahead: float = 0.0,
        leaving: bool = False,
        projects: Sequence[OfferedProject] | None = None,
    ) -> Offer:
        """An offer made now, by a clock that is `ahead`."""
        issued = self.now + ahead
        models = (project("P", model("M")),) if projects is None else tuple(projects)
        return Offer(PeerId(node), seq, issued, issued + life, NodeType.MODEL, models, leaving=leaving)

    def providers(self, name: str | None = "M", *, most: int = 10, kind: Kind | None = None) -> list[str]:
        return [one.node for one in self.catalog.providers("P", name, kind=kind, most=most)]


def model(
    name: str, kind: Kind = Kind.CHAT, *, slots: int = 0, in_flight: int = 0, aliases: tuple[str, ...] = ()
) -> OfferedModel:
    return OfferedModel(name, kind, slots, in_flight, aliases=aliases)


def project(name: str, *models: OfferedModel) -> OfferedProject:
    return OfferedProject(name, models)


# ---- what is believed ----

SAY = st.tuples(
    st.just("say"),
    st.sampled_from("ab"),
    st.integers(1, 6),
    st.floats(1.0, LONGEST_LIFE_S + 5),
    st.floats(-2 * SKEW_S, 2 * SKEW_S),
    st.booleans(),
)
REPEAT = st.tuples(st.just("repeat"), st.integers(0, 50), st.booleans())
LOSE = st.tuples(st.just("lose"), st.sampled_from("ab"), st.integers(1, 6), st.booleans())
PASS = st.tuples(st.just("pass"), st.floats(0.0, 200.0))


class Story:
    """What happens to a catalog, and what must be true of it afterwards."""

    def __init__(self) -> None:
        self.world = World()
        self.said: list[Offer] = []
        self.highest: dict[str, int] = {}  # that was ever held or withdrawn, less what hearsay may bring back
        self.withdrawn: dict[str, int] = {}
        self.until: dict[str, float] = {}  # when a node may begin anew: whatever it had signed by then is over

    def step(self, kind: object, *rest: Any) -> None:
        getattr(self, f"do_{kind}")(*rest)
        self.check()

    def do_say(self, node: str, seq: int, life: float, ahead: float, leaving: bool) -> None:
        self.said.append(self.world.offer(node, seq, life=life, ahead=ahead, leaving=leaving))
        self.hear(self.said[-1], first_hand=False)

    def do_repeat(self, which: int, first_hand: bool) -> None:
        if self.said:
            self.hear(self.said[which % len(self.said)], first_hand=first_hand)

    def hear(self, offer: Offer, *, first_hand: bool) -> None:
        if not self.world.catalog.take(offer, b"%d" % self.said.index(offer), first_hand=first_hand):
            return
        if self.world.now >= self.until.get(offer.node, 0):
            self.highest.pop(offer.node, None)
            self.withdrawn.pop(offer.node, None)
        before = self.highest.get(offer.node, 0)
        assert offer.seq > before or (first_hand and offer.seq > self.withdrawn.get(offer.node, 0))
        self.highest[offer.node] = offer.seq
        self.until[offer.node] = self.world.now + LONGEST_LIFE_S + 2 * SKEW_S
        if offer.leaving:
            self.withdrawn[offer.node] = offer.seq

    def do_lose(self, node: str, seq: int, for_good: bool) -> None:
        held = self.world.catalog.offer(PeerId(node))
        dropped = self.world.catalog.lose(PeerId(node), seq, for_good=for_good)
        assert dropped is (held is not None and held.seq <= seq)
        if dropped and not for_good:
            del self.highest[node]

    def do_pass(self, seconds: float) -> None:
        self.world.now += seconds

    def check(self) -> None:
        catalog = self.world.catalog
        held = {node: offer for node in "ab" if (offer := catalog.offer(PeerId(node))) is not None}
        for node, offer in held.items():
            self.until[node] = self.world.now + LONGEST_LIFE_S + 2 * SKEW_S
            assert offer in self.said
            assert self.world.now < offer.expires + SKEW_S
            assert offer.expires - offer.issued <= LONGEST_LIFE_S
            assert offer.seq == self.highest[node]
            assert offer.seq > self.withdrawn.get(node, 0)
        assert catalog.nodes() == sorted(held)
        assert sorted(self.world.providers()) == sorted(held)


@settings(max_examples=400)
@given(st.lists(SAY | REPEAT | LOSE | PASS, max_size=40))
def test_nothing_outlives_what_was_signed_however_it_is_told(steps: list[tuple[object, ...]]) -> None:
    story = Story()
    for step in steps:
        story.step(*step)


# ---- heartbeats of the existing network ----


HEAR = st.tuples(st.just("hear"), st.sampled_from("ab"), st.integers(-5, 5), st.booleans(), st.booleans())
LONG = st.tuples(st.just("pass"), st.sampled_from([FRESH_S, KNOWN_S]))


class MixedStory(Story):
    """The same with heartbeats, beside a catalog that hears none: what offers say must be the same in both."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = World()
        self.spoken: dict[str, int] = {}  # the newest heartbeat that was taken of each node
        self.lost: dict[str, int] = {}  # up to which one a node was found to be lost

    def do_say(self, *said: Any) -> None:
        self.said.append(self.world.offer(*said[:2], life=said[2], ahead=said[3], leaving=said[4]))
        self.hear(self.said[-1], first_hand=False)

    def hear(self, offer: Offer, *, first_hand: bool) -> None:
        signed = b"%d" % self.said.index(offer)
        taken = self.world.catalog.take(offer, signed, first_hand=first_hand)
        assert taken is self.deaf.catalog.take(offer, signed, first_hand=first_hand)

    def do_hear(self, node: str, second: int, empty: bool, first_hand: bool) -> None:
        """`second`: of the clock of offers, whose numbers go from 1 to 6."""
        held = self.world.catalog.offer(PeerId(node))
        models = () if empty else (project("P", OfferedModel("M", None)),)
        now = self.world.now
        beat = Offer(PeerId(node), second, now, now + FRESH_S, NodeType.MODEL, models, legacy=True)
        taken = self.world.catalog.hear(beat, b"%d %d" % (second, empty), first_hand=first_hand)
        if held is not None and not held.legacy:
            assert not taken
        elif first_hand:
            assert taken
        elif taken:
            assert second > self.lost.get(node, -6)
            assert held is None or second >= held.seq
            self.spoken[node] = second

    def do_lose(self, node: str, seq: int, for_good: bool) -> None:
        held = self.world.catalog.offer(PeerId(node))
        dropped = self.world.catalog.lose(PeerId(node), seq, for_good=for_good)
        assert dropped is (held is not None and held.seq <= seq)
        if held is None or not held.legacy:
            assert self.deaf.catalog.lose(PeerId(node), seq, for_good=for_good) is dropped
        elif dropped and for_good:
            self.lost[node] = held.seq

    def do_pass(self, seconds: float) -> None:
        self.world.now += seconds
        self.deaf.now += seconds
        self.lost.clear()

    def check(self) -> None:
        catalog, deaf = self.world.catalog, self.deaf.catalog
        held = {node: offer for node in "ab" if (offer := catalog.offer(PeerId(node))) is not None}
        for node in "ab":
            offer = held.get(node)
            if offer is None or offer.legacy:
                assert deaf.offer(PeerId(node)) is None
            else:
                assert deaf.offer(PeerId(node)) == offer
        legacy = {node for node, offer in held.items() if offer.legacy}
        assert set(catalog.legacy_nodes()) == legacy
        for node in legacy:
            assert self.world.now < held[node].issued + (FRESH_S if held[node].projects else KNOWN_S)
        assert catalog.nodes() == sorted(held)
        assert sorted(self.world.providers()) == sorted(node for node, offer in held.items() if offer.projects)


@settings(max_examples=400)
@given(st.lists(SAY | REPEAT | LOSE | PASS | HEAR | HEAR | LONG, max_size=40))
def test_heartbeats_never_change_what_offers_say(steps: list[tuple[object, ...]]) -> None:
    story = MixedStory()
    for step in steps:
        story.step(*step)


def beat(world: World, node: str = "a", *, ago: float = 0.0, models: Sequence[str] = ("M",)) -> Offer:
    """A heartbeat of `ago` seconds ago, heard now."""
    named = tuple(OfferedModel(name, None) for name in models)
    projects = (project("P", *named),) if models else ()
    seq = int(world.now - ago) * 1000
    return Offer(PeerId(node), seq, world.now, world.now + FRESH_S, NodeType.MODEL, projects, legacy=True)


def test_a_heartbeat_counts_for_ten_minutes_and_its_node_is_known_for_a_day() -> None:
    world = World()
    assert world.catalog.hear(beat(world), b"signed")
    assert (world.providers(), world.catalog.nodes()) == (["a"], ["a"])
    world.now += FRESH_S
    assert (world.providers(), world.catalog.nodes(), world.catalog.projects()) == ([], ["a"], [])
    offer = world.catalog.offer(PeerId("a"))
    assert offer is not None
    assert offer.node_type == NodeType(0)
    assert world.catalog.signed(PeerId("a")) == b"signed"
    world.now += KNOWN_S - FRESH_S - 1
    assert world.catalog.nodes() == ["a"]
    world.now += 1
    assert (world.catalog.nodes(), world.catalog.legacy_nodes()) == ([], set())


def test_two_heartbeats_of_one_second_count_in_their_order_and_live_no_longer() -> None:
    world = World()
    assert world.catalog.hear(beat(world, models=["M"]), b"1")
    assert not world.catalog.hear(beat(world, models=["M"]), b"1")
    world.now += 100
    assert world.catalog.hear(beat(world, ago=100, models=["N"]), b"2")
    assert not world.catalog.hear(beat(world, ago=101, models=["O"]), b"3")
    assert world.catalog.models("P") == ["N"]
    world.now += FRESH_S - 100
    assert world.catalog.models("P") == []


def test_a_node_that_was_lost_is_back_with_a_newer_heartbeat_or_an_answer() -> None:
    world = World()
    first = beat(world)
    assert world.catalog.hear(first, b"1")
    assert world.catalog.lose(PeerId("a"), first.seq)
    assert not world.catalog.hear(first, b"1")
    assert world.catalog.nodes() == []
    world.now += 1
    assert world.catalog.hear(beat(world), b"2")
    assert world.catalog.lose(PeerId("a"), beat(world).seq)
    assert world.catalog.hear(replace(first, seq=0), first_hand=True)
    assert world.providers() == ["a"]


def test_models_of_unknown_kind_are_found_for_what_such_nodes_can_do() -> None:
    world = World()
    world.catalog.hear(beat(world))
    for kind in Kind:
        expected = ["a"] if kind in (Kind.CHAT, Kind.IMAGE_GENERATION) else []
        assert world.providers(kind=kind) == expected
        assert world.providers(None, kind=kind) == expected
    assert world.providers(kind=None) == ["a"]


def test_heartbeats_of_strangers_find_room_only_where_nobody_else_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OFFERS", 10)
    world = World()
    for number in range(20):
        assert world.catalog.hear(beat(world, f"go {number}")) is (number < 10)
    for number in range(4):
        assert world.catalog.take(world.offer(f"native {number}"))
    assert sorted(world.catalog.legacy_nodes()) == [f"go {number}" for number in range(4, 10)]
    world.now += 1
    assert world.catalog.hear(beat(world, "go 4"))  # is the one heard of last now
    world.links["go 5"] = Link(Connectivity.CONNECTED, 0.01)
    world.now += 100
    assert not world.catalog.hear(beat(world, "go 50"))
    world.now += FRESH_S
    assert world.catalog.hear(beat(world, "go 50"))  # nothing has been heard of the others for ten minutes
    assert "go 5" in world.catalog.nodes()


def test_an_offer_of_the_future_is_not_taken_until_then() -> None:
    world = World()
    offer = world.offer(ahead=SKEW_S + 1)
    assert not world.catalog.take(offer)
    world.now += 1
    assert world.catalog.take(offer)


def test_what_is_withdrawn_or_expired_is_not_revived_by_what_was_said_before() -> None:
    world = World()
    old = world.offer(seq=1, life=LONGEST_LIFE_S)
    assert world.catalog.take(world.offer(seq=2, life=10))
    world.now += 10 + SKEW_S  # the newer one is over, the older one would not be
    assert world.catalog.offer(PeerId("a")) is None
    assert not world.catalog.take(old)
    again = world.offer(seq=3)
    assert world.catalog.take(again)
    assert world.catalog.take(world.offer(seq=4, leaving=True))
    assert not world.catalog.take(again)
    assert not world.catalog.take(again, first_hand=True)
    assert world.catalog.take(world.offer(seq=5))


def test_a_lost_node_comes_back_by_itself_only() -> None:
    world = World()
    offer = world.offer()
    assert world.catalog.take(offer)
    assert world.catalog.lose(PeerId("a"), 1)
    assert not world.catalog.take(offer)
    assert world.catalog.take(offer, first_hand=True)
    assert not world.catalog.lose(PeerId("a"), 0)  # another offer is meant
    assert world.catalog.lose(PeerId("a"), 1, for_good=False)
    assert world.catalog.take(offer)


def test_this_nodes_own_offer_is_what_it_says_itself() -> None:
    world = World()
    world.catalog.set_own(world.offer(OWN, 5), b"signed")
    assert not world.catalog.take(world.offer(OWN, 9))
    assert world.catalog.own_seq == 9
    assert not world.catalog.lose(OWN, 99)
    world.catalog.change_own((project("P", model("N")),))
    assert world.providers("N") == [OWN]
    assert world.catalog.signed(OWN) == b"signed"
    world.catalog.set_own(world.offer(OWN, 10, leaving=True), b"leaving")
    assert (world.providers(None), world.catalog.own_signed) == ([], b"leaving")


# ---- bounds ----


def test_a_crowd_of_strangers_does_not_push_out_whom_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OFFERS", 10)
    world = World()
    for number in range(20):
        assert world.catalog.take(world.offer(f"stranger {number}", life=50 + number)) is (number < 10)
    world.links["friend"] = Link(Connectivity.CONNECTED, 0.01)
    assert world.catalog.take(world.offer("friend"))
    assert len(world.catalog.nodes()) == 10
    assert world.catalog.offer(PeerId("stranger 0")) is None  # the first to end
    assert world.catalog.take(world.offer("stranger 5", seq=2))  # in place of its own
    world.now += 49 + SKEW_S + 5
    assert world.catalog.take(world.offer("a newcomer"))


def test_large_offers_find_no_room_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WEIGHT", 1 << 20)
    world = World()
    large = [project("P", *(model(f"M{number}") for number in range(1000)))]
    taken = [world.catalog.take(world.offer(f"node {number}", projects=large), bytes(100_000)) for number in range(5)]
    assert taken == [True, False, False, False, False]
    assert world.catalog.take(world.offer("small"))


# ---- what is told ----


def test_projects_and_models_are_those_of_all_nodes() -> None:
    world = World()
    world.catalog.take(
        world.offer("a", projects=[project("P", model("M"), model("E", Kind.EMBEDDING)), project("Q", model("X"))])
    )
    world.catalog.take(world.offer("b", projects=[project("P", model("N", aliases=("M",)))]))
    assert world.catalog.projects() == ["P", "Q"]
    assert world.catalog.models("P") == ["E", "M", "N"]
    assert world.catalog.models("nobody's") == []
    assert sorted(world.providers("M")) == ["a", "b"]
    assert sorted(world.providers(None)) == ["a", "b"]
    assert world.providers(None, kind=Kind.EMBEDDING) == ["a"]
    assert world.providers("M", kind=Kind.EMBEDDING) == []
    world.catalog.take(world.offer("a", 2, projects=[]))
    assert (world.catalog.projects(), world.catalog.models("P"), world.providers("E")) == (["P"], ["N"], [])


def test_the_best_nodes_come_first() -> None:
    world = World()
    full, room = model("M", slots=4, in_flight=4), model("M", slots=4, in_flight=3)
    links = {
        "near": Link(Connectivity.CONNECTED, 0.01),
        "far": Link(Connectivity.CONNECTED, 0.2),
        "unmeasured": Link(Connectivity.CONNECTED, 0.0),
        "relayed": Link(Connectivity.CONNECTED, 0.001, relayed=True),
        "before": Link(Connectivity.CAN_CONNECT, 0.0),
        "unknown": FAR,
        "full": Link(Connectivity.CONNECTED, 0.001),
        "failed": Link(Connectivity.CANNOT_CONNECT, 0.0),
    }
    world.links.update(links)
    for node in reversed(links):
        world.catalog.take(world.offer(node, projects=[project("P", full if node == "full" else room)]))
    world.catalog.set_own(world.offer(OWN, projects=[project("P", room)]), b"")
    expected = [OWN, *links]
    assert world.providers(most=20) == expected
    assert world.providers(most=3) == expected[:3]


def test_pages_go_through_all_that_can_be_handed_on() -> None:
    world = World()
    for number in range(100):
        world.catalog.take(world.offer(f"{number:03}"), b"%03d" % number + bytes(97) if number % 2 else b"")
    after, pages = "", list[list[bytes]]()
    while True:
        page, after = world.catalog.page(after, most_bytes=1000)
        pages.append(page)
        if not after:
            break
    assert [int(one[:3]) for page in pages for one in page] == list(range(1, 100, 2))
    assert all(sum(map(len, page)) <= 1000 for page in pages)
    assert world.catalog.page("", most_bytes=1) == ([b"001" + bytes(97)], "001")
    assert world.catalog.holds(pages[0][0])


def test_changes_are_told() -> None:
    world, told = World(), list[str]()
    world.catalog.on_change(told.append)
    world.catalog.take(world.offer("a"))
    world.catalog.take(world.offer("a"))  # no news
    world.catalog.take(world.offer("a", 2))
    world.catalog.lose(PeerId("a"), 2)
    world.catalog.take(world.offer("b"))
    world.now += 90 + SKEW_S
    world.catalog.expire()
    assert told == ["a", "a", "a", "b", "b"]
    assert all(x <= y for x, y in pairwise(told))
