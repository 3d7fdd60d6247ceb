"""Who is asked first, in which order the others, and why: each reason, each rule, and what must hold whatever was seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.domain.routing import MOST_VERDICTS, Verdict
from aicn.errors import (
    AicnError,
    AnswerBroken,
    Busy,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    ModelFailed,
    UnknownModel,
    UnknownNode,
    Unreachable,
)
from tests.fakes.routers import OWN, Gateway, a_chat, a_node, a_request

GONE = Link(Connectivity.CANNOT_CONNECT, 0.0)
FAILURES = [
    Unreachable("no way"),
    UnknownNode("nobody knows it"),
    AnswerBroken("reset"),
    DeadlineExceeded("silence"),
    ModelFailed("out of memory"),
    UnknownModel("not here any more"),
]


# ---- one golden verdict per reason ----


def test_nobody() -> None:
    assert Gateway().router.rank(a_request(), []) == ([], [])


def test_the_only_one() -> None:
    gateway, one = Gateway(), a_node("a")
    asked, verdicts = gateway.router.rank(a_request(), [one])
    assert asked == [one]
    assert verdicts == [Verdict(PeerId("a"), 0, pytest.approx(1.01), "the only one")]  # type: ignore[arg-type]


def test_the_best_and_a_slower_one() -> None:
    gateway, fast, slow = Gateway(), a_node("fast"), a_node("slow")
    gateway.answers(fast, 0.1, 0.01)
    gateway.answers(slow, 1.0, 0.1)
    verdicts = gateway.verdicts(slow, fast)
    assert verdicts == {
        "fast": Verdict(PeerId("fast"), 0, pytest.approx(0.1 + 30 * 0.01), "best"),  # type: ignore[arg-type]
        "slow": Verdict(PeerId("slow"), 1, pytest.approx(1.0 + 30 * 0.1), "slower"),  # type: ignore[arg-type]
    }


def test_the_better_of_two_and_those_among_the_best() -> None:
    gateway, nodes = Gateway(), [a_node(name) for name in "abcd"]
    for one in nodes:
        gateway.answers(one)
    reasons = gateway.reasons(*nodes)
    assert Counter(reasons.values()) == {"better of two": 1, "among the best": 3}
    assert next(iter(reasons.values())) == "better of two"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.code)
def test_who_has_failed_is_set_aside(failure: AicnError) -> None:
    gateway, good, bad = Gateway(), a_node("good"), a_node("bad")
    gateway.answers(good, 1.0)
    gateway.answers(bad, 0.1)
    gateway.fails(bad, failure)
    gateway.now += 0.2
    assert gateway.rank(bad, good) == ["good", "bad"]
    assert gateway.reasons(bad, good)["bad"] == "failed 0 s ago, set aside for 0.3 s"


@pytest.mark.parametrize("error", [InvalidRequest("messages: wrong"), Forbidden("no wallet"), None])
def test_what_is_not_its_fault_changes_nothing(error: AicnError | None) -> None:
    gateway, one, other = Gateway(), a_node("a"), a_node("b")
    gateway.answers(one, 0.1)
    gateway.answers(other, 1.0)
    before = gateway.verdicts(one, other)
    gateway.router.started(one)
    gateway.router.ended(one, error=error, chunks=0, seconds=0.0)
    assert gateway.verdicts(one, other) == before


def test_no_room_as_announced_as_known_here_and_as_told_when_asked() -> None:
    gateway = Gateway()
    free, told, ours, busy = a_node("free"), a_node("told", in_flight=4), a_node("ours"), a_node("busy")
    gateway.answers(free, 2.0)
    for one in (ours, busy):
        gateway.answers(one, 0.1)
    for _ in range(4):
        gateway.router.started(ours)
    gateway.fails(busy, Busy("full", retry_after=3))
    reasons = gateway.reasons(free, told, ours, busy)
    assert reasons == {"free": "best", "told": "no room", "ours": "no room", "busy": "no room"}
    gateway.now += 3.1
    assert gateway.reasons(free, busy) == {"busy": "best", "free": "slower"}


def test_who_could_not_be_reached() -> None:
    gateway, near, gone = Gateway(), a_node("near", in_flight=4), a_node("gone", link=GONE)
    gateway.answers(near, 5.0)
    assert gateway.reasons(gone, near) == {"near": "no room", "gone": "could not be reached"}
    own = Provider(OWN, OfferedModel("M", Kind.CHAT, 4), GONE)  # of oneself links say nothing
    assert gateway.rank(own, near)[0] == OWN


def test_too_short_a_context_is_not_asked_at_all() -> None:
    gateway, short, long = Gateway(), a_node("short", context=100), a_node("long", context=1000)
    request = a_request(b'{"messages":[{"role":"user","content":"' + b"word " * 140 + b'"}]}')
    verdicts = gateway.verdicts(short, long, request=request)
    assert gateway.rank(short, long, request=request) == ["long"]
    assert verdicts["short"].rank is None
    assert verdicts["short"].reason == "context of 100 tokens is too short"
    assert gateway.rank(short, request=request) == []
    assert sorted(gateway.rank(short, long)) == ["long", "short"]
    assert gateway.rank(a_node("unknown", context=0), request=request) == ["unknown"]


def test_a_context_that_may_be_too_short_for_the_answer_is_asked_last() -> None:
    gateway, tight, busy = Gateway(), a_node("tight", context=2048), a_node("busy", in_flight=4)
    gateway.answers(busy, 9.0)
    request = a_request(b'{"messages":[{"role":"user","content":"Hello"}],"max_tokens":4096}')
    assert gateway.reasons(tight, busy, request=request) == {
        "busy": "no room",
        "tight": "context of 2048 tokens may be too short",
    }
    assert gateway.rank(tight, request=request) == ["tight"]


# ---- trials ----


def test_a_new_node_is_tried_one_request_at_a_time() -> None:
    gateway, old, new = Gateway(), a_node("old"), a_node("new", slots=64)
    gateway.answers(old)
    assert gateway.reasons(old, new) == {"new": "tried: it has yet to prove itself", "old": "among the best"}
    gateway.router.started(new)
    assert gateway.reasons(old, new) == {"old": "best", "new": "has yet to prove itself, and is being asked"}
    gateway.router.first_chunk(new, a_request(), 0.01)
    assert gateway.rank(old, new)[0] == "new"


def test_nodes_made_up_in_thousands_get_a_tenth_of_the_requests() -> None:
    gateway, honest = Gateway(), [a_node(f"honest{i}") for i in range(5)]
    for one in honest:
        gateway.answers(one)
    asked: Counter[bool] = Counter()
    for number in range(1000):
        made_up = [a_node(f"x{number}-{i}") for i in range(20)]
        first = gateway.router.rank(a_request(), [*honest, *made_up])[0][0]
        asked[first in honest] += 1
        if first in honest:
            gateway.answers(first)
        else:
            gateway.fails(first, ModelFailed("of course"))
    assert asked[False] <= 110


def test_after_a_failure_one_request_probes_and_the_pause_grows() -> None:
    gateway, good, bad = Gateway(), a_node("good"), a_node("bad")
    gateway.answers(good, 1.0)
    gateway.answers(bad, 0.1)
    pauses = []
    for _ in range(12):
        for _ in range(20):
            gateway.answers(good, 1.0)
        assert gateway.rank(good, bad)[0] == "bad"
        gateway.fails(bad, Unreachable("no"))
        left_alone_at = gateway.now
        while gateway.rank(good, bad)[0] == "good":
            gateway.now += 0.25
        pauses.append(gateway.now - left_alone_at)
    assert pauses[0] == pytest.approx(0.5, abs=0.3)
    assert pauses == sorted(pauses)
    assert 16 < pauses[-1] < 65
    gateway.router.started(bad)
    assert gateway.rank(good, bad)[0] == "good"  # one probe
    gateway.router.first_chunk(bad, a_request(), 0.1)
    assert gateway.reasons(good, bad)["bad"] in ("slower", "best", "better of two")


def test_many_requests_that_fail_at_once_are_one_failure() -> None:
    gateway, good, bad = Gateway(), a_node("good"), a_node("bad", slots=64)
    for one in (good, bad):
        gateway.answers(one)
    for _ in range(50):
        gateway.router.started(bad)
    for _ in range(50):
        gateway.router.ended(bad, error=AnswerBroken("reset"), chunks=3, seconds=1.0)
    assert gateway.reasons(good, bad)["bad"] == "failed 0 s ago, set aside for 0.5 s"


def test_a_node_that_died_is_set_aside_with_all_its_models() -> None:
    gateway, good, bad = Gateway(), a_node("good"), a_node("bad")
    other_model = replace(bad, model=replace(bad.model, name="N"))
    gateway.answers(good)
    gateway.fails(other_model, AnswerBroken("reset"))
    assert gateway.reasons(good, bad)["bad"].startswith("failed 0 s ago")
    gateway, good, bad = Gateway(), a_node("good"), a_node("bad")
    gateway.answers(good)
    gateway.fails(other_model, ModelFailed("of this model only"))
    assert not gateway.reasons(good, bad)["bad"].startswith("failed")


# ---- load ----


def test_load_spreads_over_equals() -> None:
    gateway, nodes = Gateway(), [a_node(f"n{i}", slots=8) for i in range(10)]
    for one in nodes:
        gateway.answers(one)
    running: Counter[str] = Counter()
    for _ in range(40):
        first = gateway.router.rank(a_request(), nodes)[0][0]
        gateway.router.started(first)
        running[first.node] += 1
    assert max(running.values()) <= 6
    assert min(running[one.node] for one in nodes) >= 2


def test_what_a_worker_says_of_its_load_counts_and_fades() -> None:
    gateway, one, other = Gateway(), a_node("a"), a_node("b")
    for node in (one, other):
        gateway.answers(node)
    gateway.router.started(one)
    gateway.router.admitted(one, Accepted(queue_position=9, in_flight=4))
    gateway.router.ended(one, error=None, chunks=0, seconds=0.0)
    assert gateway.reasons(one, other) == {"b": "best", "a": "no room"}
    gateway.now += 120
    assert gateway.reasons(one, other)["a"] != "no room"


def test_a_slow_node_gets_another_chance_in_time() -> None:
    gateway, nodes, slow = Gateway(), [a_node(f"n{i}") for i in range(4)], a_node("slow")
    for _ in range(10):
        for one in nodes:
            gateway.answers(one, 0.5, 0.05)
    gateway.answers(slow, 30.0, 1.0)
    at_once = gateway.verdicts(slow)["slow"].score
    gateway.now += 3600
    assert at_once == pytest.approx(60.0)
    assert gateway.verdicts(slow)["slow"].score < 4.0


def test_plain_answers_are_counted_by_their_own_kind() -> None:
    gateway, one = Gateway(), a_node("a")
    for _ in range(3):
        gateway.answers(one, 0.1, 0.01)
        gateway.answers(one, 7.0, request=a_request(stream=False))
    assert gateway.verdicts(one)["a"].score == pytest.approx(0.4)
    assert gateway.verdicts(one, request=a_request(stream=False))["a"].score == pytest.approx(7.0)


# ---- conversations ----


def test_a_conversation_stays_where_its_cache_is_warm() -> None:
    gateway, nodes = Gateway(), [a_node(f"n{i}") for i in range(8)]
    for one in nodes:
        gateway.answers(one)
    gateway.answers(nodes[5], request=a_chat("Hello"))
    for seed in range(20):
        gateway.router._chance.seed(seed)
        verdicts = gateway.verdicts(*nodes, request=a_chat("Hello", "Hi!", "What is love?"))
        assert next(iter(verdicts.values())) == Verdict(
            PeerId("n5"), 0, verdicts["n5"].score, "answered this conversation before"
        )
    others = {gateway.rank(*nodes, request=a_chat("Good morning"))[0] for _ in range(100)}
    assert len(others) > 3


def test_it_moves_on_when_that_costs_less() -> None:
    gateway, warm, other = Gateway(), a_node("warm"), a_node("other")
    for one in (warm, other):
        gateway.answers(one, request=a_chat("Hello" if one is warm else "else"))
    for _ in range(3):
        gateway.router.started(warm)
    assert gateway.rank(warm, other, request=a_chat("Hello", "Hi!", "And?"))[0] == "other"


# ---- what must hold whatever was seen ----


def test_a_dry_run_says_what_the_next_run_does() -> None:
    gateway, nodes = Gateway(), [a_node(f"n{i}") for i in range(20)]
    for one in nodes:
        gateway.answers(one)
    firsts = set()
    for _ in range(50):
        explained = gateway.router.explain(a_request(), nodes)
        assert gateway.router.explain(a_request(), nodes) == explained
        asked, verdicts = gateway.router.rank(a_request(), nodes)
        assert verdicts == explained
        firsts.add(asked[0].node)
    assert len(firsts) > 5


def test_verdicts_are_bounded_and_the_order_is_whole() -> None:
    gateway, nodes = Gateway(), [a_node(f"n{i:03}") for i in range(200)]
    asked, verdicts = gateway.router.rank(a_request(), nodes)
    assert len(asked) == 200
    assert len(verdicts) == MOST_VERDICTS
