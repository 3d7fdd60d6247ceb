"""The boundary around work in the background."""

import logging

import pytest
import trio

from aicn.p2p.background import step


async def test_a_broken_step_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise KeyError("a mistake of ours")

    await step("the work", broken)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.ERROR, "the work broke")


async def test_a_cancelled_step_is_cancelled() -> None:
    with trio.move_on_after(0) as scope:
        await step("the work", trio.sleep_forever)
    assert scope.cancelled_caught
