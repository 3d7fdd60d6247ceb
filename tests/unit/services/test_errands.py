from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.services.errands import Errands
from aicn.services.rates import Rates

A, B, C, D = map(PeerId, "abcd")


async def test_each_node_once_and_a_few_at_a_time(autojump_clock: MockClock) -> None:
    began: list[str] = []

    async def do(node: PeerId) -> None:
        began.append(node)
        await trio.sleep(1)

    errands = Errands("testing", do, at_once=2, most=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errands.run)
        assert errands.add(A)
        assert errands.add(A)
        assert errands.add(B)
        assert not errands.add(C)  # two wait already
        await wait_all_tasks_blocked()
        assert errands.add(B)  # runs
        assert errands.add(C)
        assert errands.add(D)
        await trio.sleep(0.5)
        assert began == [A, B]
        assert all(node in errands for node in (A, B, C, D))
        await trio.sleep(2)
        assert began == [A, B, C, D]
        assert not any(node in errands for node in (A, B, C, D))
        assert errands.add(A)
        await wait_all_tasks_blocked()
        assert began == [A, B, C, D, A]
        nursery.cancel_scope.cancel()


async def test_what_has_changed_meanwhile_is_done_again(autojump_clock: MockClock) -> None:
    began: list[tuple[str, float]] = []
    start = trio.current_time()

    async def do(node: PeerId) -> None:
        began.append((node, trio.current_time() - start))
        await trio.sleep(1)

    errands = Errands("testing", do, at_once=2, most=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errands.run)
        assert errands.add(A, again=True)
        await trio.sleep(0.5)
        for _ in range(3):
            assert errands.add(A, again=True)
        assert errands.add(B, again=True)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert began == [(A, 0), (B, 0.5), (A, 1)]


async def test_one_that_fails_ends_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    async def do(node: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        if node == A:
            raise RuntimeError("a bug")
        done.append(node)

    errands = Errands("testing", do, at_once=1, most=9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errands.run)
        errands.add(A)
        errands.add(B)
        await wait_all_tasks_blocked()
        assert done == [B]
        assert "testing: node a" in caplog.text
        nursery.cancel_scope.cancel()


async def test_rates(autojump_clock: MockClock) -> None:
    rates = Rates(rate=0.5, burst=3, most=2)
    assert [rates.allow("a") for _ in range(5)] == [True, True, True, False, False]
    assert rates.allow("b")
    await trio.sleep(2)
    assert [rates.allow("a") for _ in range(2)] == [True, False]
    await trio.sleep(60)
    assert [rates.allow("a") for _ in range(4)] == [True, True, True, False]
    rates.allow("b")
    rates.allow("c")  # one too many: "a" is forgotten
    assert rates.allow("a")
