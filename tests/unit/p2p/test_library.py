"""The library's services in our nurseries."""

import logging

import pytest
import trio
from libp2p.tools.anyio_service import Service

from aicn.p2p.library import run_service


class Fragile(Service):
    """Does what it is told in tasks of its own."""

    def __init__(self) -> None:
        self.daemon_runs = 0
        self.later = trio.Event()

    async def run(self) -> None:
        self.manager.run_daemon_task(self.daemon)
        await self.manager.wait_finished()

    async def daemon(self) -> None:
        self.daemon_runs += 1
        if self.daemon_runs < 3:
            raise KeyError("again")
        await trio.sleep_forever()

    async def break_down(self) -> None:
        raise KeyError("junk of a peer")

    async def do(self) -> None:
        self.later.set()


async def test_a_broken_task_ends_nothing_else(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    service = Fragile()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_service, service)
        service.manager.run_task(service.break_down)
        await trio.sleep(10)
        service.manager.run_task(service.do)
        with trio.fail_after(1):
            await service.later.wait()
        assert service.daemon_runs == 3
        nursery.cancel_scope.cancel()
