from __future__ import annotations

import pytest
import trio
from hypothesis import given
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
