"""A trial: the streams undisturbed, and the same while workers fail."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from aicn.cli.churn.faults import Mode, schedule
from aicn.cli.churn.fleet import Deed, Fleet, Worker, open_fleet
from aicn.cli.churn.report import Report, Run, report
from aicn.cli.churn.streams import Load, Stream

_NEWS_S = 2.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried."""

    mode: Mode
    seed: int
    workers: int
    every_s: float
    token_s: float
    load: Load

    async def run(self, directory: Path, tell: Tell) -> Report:
        """Its report; `tell` hears how it goes. KeyboardInterrupt on SIGINT, SIGTERM, SIGHUP; no process is left in any case.

        ClickException when a node does not start, or ends by itself.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(_interrupt)
            tell(f"Starting a gateway and {self.workers} workers on loopback, in a private network of their own.")
            async with open_fleet(self.workers, self.token_s, directory) as fleet:
                deeds: list[Deed] = []
                if (
                    self.mode == "frozen"
                ):  # the others alone are the measure; afterwards, lest the gateway prefer those it knows
                    disturbed = await self._disturbed(fleet, deeds, tell)
                    fleet.thaw()
                    undisturbed = await self._undisturbed(fleet, fleet.workers[1:], tell)
                else:
                    undisturbed = await self._undisturbed(fleet, fleet.workers, tell)
                    disturbed = await self._disturbed(fleet, deeds, tell)
            nursery.cancel_scope.cancel()
        return report(self.mode, undisturbed, disturbed, deeds)

    async def _undisturbed(self, fleet: Fleet, workers: Sequence[Worker], tell: Tell) -> Run:
        await fleet.offer(workers)
        return await self._watched(fleet, [], tell)

    async def _disturbed(self, fleet: Fleet, deeds: list[Deed], tell: Tell) -> Run:
        await fleet.offer(fleet.workers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.disturb, schedule(self.mode, self.seed, self.workers, self.every_s), deeds)
            ran = await self._watched(fleet, deeds, tell)
            nursery.cancel_scope.cancel()
        return ran

    async def _watched(self, fleet: Fleet, deeds: list[Deed], tell: Tell) -> Run:
        """A run with news of it every few seconds."""
        seen: list[Stream] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._news, seen, deeds, tell)
            seconds = await self.load.run(fleet, seen)
            nursery.cancel_scope.cancel()
        return Run(seen, seconds)

    async def _news(self, seen: list[Stream], deeds: list[Deed], tell: Tell) -> None:
        while True:
            await trio.sleep(_NEWS_S)
            resumed = sum(bool(stream.resumed_at) for stream in seen)
            wrong = sum(bool(stream.error) for stream in seen)
            tell(f"{len(seen)} of {self.load.streams} streams, {len(deeds)} faults, {resumed} resumed, {wrong} wrong")


async def _interrupt(*, task_status: trio.TaskStatus[None]) -> None:
    """Ctrl-C and the polite signals end the trial where it can clean up."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        await anext(signals)
        raise KeyboardInterrupt
