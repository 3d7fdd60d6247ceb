from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.errors import Busy
from aicn.services.admission import Admission, Ticket


async def test_places_then_queue_then_busy() -> None:
    admission = Admission(concurrency=2, queue=1)
    (_, first), (_, second), (waiting, third) = admission.enter(), admission.enter(), admission.enter()
    assert (first, second, third) == (0, 0, 1)
    with pytest.raises(Busy) as refusal:
        admission.enter()
    assert refusal.value.retry_after is not None
    assert refusal.value.retry_after >= 1
    assert (admission.running, admission.waiting) == (2, 1)
    waiting.leave()
    assert admission.waiting == 0


async def test_first_come_first_served(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=1, queue=10)
    order: list[int] = []

    async def request(number: int, ticket: Ticket) -> None:
        await ticket.wait()
        order.append(number)
        await trio.sleep(1)
        ticket.leave()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            ticket, position = admission.enter()
            assert position == number
            nursery.start_soon(request, number, ticket)
    assert order == [0, 1, 2, 3, 4]
    assert trio.current_time() == 5


async def test_one_that_leaves_the_queue_frees_its_place() -> None:
    admission = Admission(concurrency=1, queue=2)
    running, _ = admission.enter()
    gone, _ = admission.enter()
    stays, _ = admission.enter()
    gone.leave()
    gone.leave()
    assert admission.enter()[1] == 2
    running.leave()
    with trio.fail_after(1):
        await stays.wait()


async def test_advice_follows_the_measured_service_time(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=1, queue=0)
    for _ in range(100):
        ticket, _ = admission.enter()
        await trio.sleep(20)
        ticket.leave()
    admission.enter()
    with pytest.raises(Busy) as refusal:
        admission.enter()
    assert refusal.value.retry_after == pytest.approx(20, rel=0.01)


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 4), st.integers(0, 5))
def test_never_more_than_allowed_and_never_an_idle_place(leaves: list[int], concurrency: int, queue: int) -> None:
    async def scenario() -> None:
        admission = Admission(concurrency=concurrency, queue=queue)
        tickets: list[Ticket] = []
        for leave in leaves:
            if leave < len(tickets):
                tickets.pop(leave).leave()
            else:
                try:
                    tickets.append(admission.enter()[0])
                except Busy:
                    assert admission.waiting == queue
            assert admission.running <= concurrency
            assert admission.waiting <= queue
            assert admission.running == concurrency or not admission.waiting
            assert admission.running + admission.waiting == len(tickets)

    trio.run(scenario)


async def test_principals_are_served_in_turn_each_in_its_own_order(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=1, queue=100)
    order = []

    async def request(name: str, ticket: Ticket) -> None:
        await ticket.wait()
        order.append(name)
        await trio.sleep(1)
        ticket.leave()

    async with trio.open_nursery() as nursery:
        for name in ("a0", "a1", "a2", "a3", "b0", "b1", "c0"):
            nursery.start_soon(request, name, admission.enter(name[0])[0])
    assert order == ["a0", "b0", "a1", "c0", "b1", "a2", "a3"]


def test_nobody_holds_more_than_its_share_while_others_wait() -> None:
    async def scenario() -> None:
        admission = Admission(concurrency=4, queue=100)
        of_a = [admission.enter("a")[0] for _ in range(20)]
        assert (admission.running, admission.waiting) == (4, 16)  # what nobody else wants is a's
        of_b = [admission.enter("b")[0] for _ in range(3)]
        for ticket in of_a[:2]:
            ticket.leave()
        assert [ticket.outlook()[0] for ticket in of_b[:2]] == [0, 0]
        of_a[2].leave()
        assert of_b[2].outlook()[0] > 0  # each has two
        of_b[0].leave()
        assert of_b[2].outlook()[0] == 0

    trio.run(scenario)


async def test_who_asks_for_long_answers_gets_fewer(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=1, queue=1000)
    ran = {"long": 0.0, "short": 0.0}

    async def request(who: str, seconds: float, ticket: Ticket) -> None:
        await ticket.wait()
        await trio.sleep(seconds)
        ran[who] += seconds
        ticket.leave()

    with trio.move_on_after(400):
        async with trio.open_nursery() as nursery:
            for who, seconds in (("long", 4.0), ("short", 1.0)):
                for _ in range(450):
                    nursery.start_soon(request, who, seconds, admission.enter(who)[0])
    assert ran["long"] < 2.2 * ran["short"]  # not 4, as in plain turns
    assert ran["short"] < 2 * ran["long"]


async def test_in_a_full_queue_the_greediest_makes_room() -> None:
    admission = Admission(concurrency=1, queue=3)
    admission.enter("greedy")
    tickets = [admission.enter("greedy")[0] for _ in range(3)]
    with pytest.raises(Busy):
        admission.enter("greedy")
    modest, _ = admission.enter("modest")
    with pytest.raises(Busy, match="queue is full") as told:
        await tickets[2].wait()
    assert told.value.retry_after is not None
    tickets[2].leave()
    assert (admission.running, admission.waiting) == (1, 3)
    with pytest.raises(Busy):  # two of one and one of the other: to trade again would help nobody
        admission.enter("modest")
    tickets[1].leave()
    modest.leave()
    assert admission.waiting == 1


async def test_what_would_come_too_late_is_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=2, queue=100)
    assert admission.enter(patience_s=0)[1] == 0
    ticket, _ = admission.enter()
    waiting, _ = admission.enter(patience_s=0.1)  # nothing is known of service times yet
    await trio.sleep(10)
    ticket.leave()
    await waiting.wait()
    assert admission.enter(patience_s=5)[0].outlook() == (1, 5.0)
    with pytest.raises(Busy, match=r"free in 10\.0 s") as refusal:
        admission.enter(patience_s=9)
    assert refusal.value.retry_after == 10
    assert admission.enter("other", patience_s=11)[0].outlook() == (1, 5.0)
    assert admission.waiting == 2


async def test_places_that_are_held_unread_are_wanted_by_others_only(autojump_clock: trio.testing.MockClock) -> None:
    admission = Admission(concurrency=2, queue=10)
    ended = []
    held, busy = admission.enter("a")[0], admission.enter("a")[0]

    async def end() -> None:
        ended.append(trio.current_time())
        held.leave()

    held.reclaim = end
    held.unread_since = trio.current_time()
    own, other = admission.enter("a")[0], admission.enter("b")[0]
    await trio.sleep(5)
    await other.reclaim_unread(6)
    await trio.sleep(1)
    await own.reclaim_unread(6)
    assert ended == []
    await other.reclaim_unread(6)
    assert ended == [6]
    assert other.outlook()[0] == 0
    busy.leave()


WHO = st.sampled_from("abcd")
STEP = st.one_of(st.tuples(st.just("enter"), WHO), st.tuples(st.just("leave"), st.integers(0, 30)))


@given(st.lists(STEP, max_size=120), st.integers(1, 5), st.integers(0, 12))
def test_whatever_happens_places_are_few_full_and_fair(steps: list[tuple[str, Any]], most: int, queue: int) -> None:
    async def scenario() -> None:
        admission = Admission(concurrency=most, queue=queue)
        there: list[tuple[str, Ticket]] = []
        for what, arg in steps:
            before = [ticket for _, ticket in there if ticket.outlook()[0]]
            if what == "leave" and arg < len(there):
                who, leaving = there.pop(arg)
                leaving.leave()
                if leaving in before:
                    before.remove(leaving)
            elif what == "enter":
                try:
                    there.append((arg, admission.enter(arg)[0]))
                except Busy:
                    assert admission.waiting == queue
            there = [(who, ticket) for who, ticket in there if ticket.refusal is None]
            running = [who for who, ticket in there if ticket.outlook()[0] == 0]
            waiting = [who for who, ticket in there if ticket.outlook()[0]]
            assert (admission.running, admission.waiting) == (len(running), len(waiting))
            assert len(running) <= most
            assert len(waiting) <= queue
            assert len(running) == most or not waiting
            for who in "abcd":  # in its own order
                places = [ticket.outlook()[0] for name, ticket in there if name == who and ticket in before]
                assert places == sorted(places)
        for _ in range(len(there) + 1):  # nobody starves
            for _, ticket in [pair for pair in there if pair[1].outlook()[0] == 0]:
                ticket.leave()
        assert (admission.running, admission.waiting, len(admission._principals)) == (0, 0, 0)

    trio.run(scenario)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.floats(0, 50), st.integers(1, 3))
def test_a_flood_costs_others_one_service_time(concurrency: int, arrives: float, own: int) -> None:
    """With 1000 requests of another before it, a principal waits for one place, and then for its own share of them."""
    waits: list[float] = []

    async def request(admission: Admission, who: str) -> None:
        entered = trio.current_time()
        ticket, _ = admission.enter(who)
        await ticket.wait()
        if who == "victim":
            waits.append(trio.current_time() - entered)
        await trio.sleep(1)
        ticket.leave()

    async def scenario() -> None:
        admission = Admission(concurrency=concurrency, queue=2000)
        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(request, admission, "flood")
            await trio.sleep(arrives)
            for _ in range(own):
                nursery.start_soon(request, admission, "victim")
            while len(waits) < own:
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))
    assert waits[0] <= 1.001
    assert max(waits) <= 1.001 + 2 * (own - 1)
