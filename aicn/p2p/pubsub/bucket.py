"""A rate with a burst."""

from __future__ import annotations

import trio

_SHORTEST_S = 1e-4  # sleep: a rounding error's worth of units would be waited for without time passing


class Bucket:
    """Lets `rate` units pass per second, and `burst` at once after a pause."""

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = trio.current_time()

    def left(self) -> float:
        """Units that may pass now; below zero: more have passed than were due."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left

    def spend(self, units: float) -> None:
        """These pass now."""
        self._left = self.left() - units

    async def take(self, units: float) -> None:
        """These pass; returns when they were due, so that the taker goes no faster than the rate."""
        self.spend(units)
        await self.wait()

    async def wait(self, units: float = 0.0) -> None:
        """Until `units` are left."""
        while (missing := units - self.left()) > 0:  # noqa: ASYNC110 - time is what is waited for
            await trio.sleep(max(missing / self._rate, _SHORTEST_S))
