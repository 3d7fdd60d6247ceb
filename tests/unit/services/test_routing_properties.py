"""Routing: what must hold whatever was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.domain.inference import Accepted
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import Provider
from aicn.errors import Busy, ModelFailed, Unreachable
from tests.fakes.routers import Gateway, a_node, a_request

Event = tuple[int, str, float]
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["answer", "plain", "start", "fail", "busy", "die", "wait", "admit", "leave"]),
        st.floats(0.001, 100, allow_nan=False),
    ),
    max_size=60,
)
CANDIDATES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 10), st.sampled_from([0, 8, 10**6]), st.sampled_from(Connectivity), st.booleans()),
    min_size=1,
    max_size=6,
)  # fmt: skip


def happened(events: Sequence[Event], nodes: Sequence[Provider]) -> Gateway:
    """A gateway that has seen all that."""
    gateway = Gateway()
    for number, what, value in events:
        one = nodes[number % len(nodes)]
        match what:
            case "answer" | "plain":
                gateway.answers(one, value, value / 100, request=a_request(stream=what == "answer"))
            case "start":
                gateway.router.started(one)
            case "fail":
                gateway.fails(one, ModelFailed("no"))
            case "busy":
                gateway.fails(one, Busy("full", retry_after=value))
            case "die":
                gateway.fails(one, Unreachable("gone"))
            case "admit":
                gateway.router.admitted(one, Accepted(int(value), int(value)))
            case "leave":
                gateway.router.ended(one, error=None, chunks=0, seconds=0.0)
            case "wait":
                gateway.now += value
    return gateway


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, made=CANDIDATES, data=st.data())
def test_properties(
    events: Sequence[Event], made: Sequence[tuple[int, int, int, Connectivity, bool]], data: st.DataObject
) -> None:
    nodes = [
        a_node(f"n{i}", slots=slots, in_flight=in_flight, context=context, link=Link(link, 0.1, relayed))
        for i, (slots, in_flight, context, link, relayed) in enumerate(made)
    ]
    gateway = happened(events, nodes)
    request = a_request(b"x" * 600)
    dice = gateway.router._chance.getstate()
    asked, verdicts = gateway.router.rank(request, nodes)
    fit = [one for one in nodes if one.model.context != 8]
    assert sorted(one.node for one in asked) == sorted(one.node for one in fit)
    assert {one.node for one in verdicts} == {one.node for one in nodes}
    assert all(math.isfinite(one.score) and one.score > 0 for one in verdicts)
    assert [one.node for one in verdicts if one.rank is not None] == [one.node for one in asked]
    aside = {one.node for one in verdicts if one.reason.startswith(("failed", "could not be"))}
    assert not asked or asked[0].node not in aside or all(one.node in aside for one in asked)

    gateway.router._chance.setstate(dice)
    assert gateway.router.rank(request, data.draw(st.permutations(nodes))) == (asked, verdicts)
