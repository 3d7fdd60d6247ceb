"""How often each of many may do something."""

from __future__ import annotations

import trio


class Rates:
    """For each key `rate` times a second, and `burst` times at once after a pause."""

    def __init__(self, *, rate: float, burst: float, most: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most  # keys remembered; the one that was heard of longest ago is forgotten
        self._left: dict[str, tuple[float, float]] = {}  # times left, and when; the newest at the end

    def allow(self, key: str) -> bool:
        """Whether it may, now; if so it has."""
        now = trio.current_time()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1.0
        self._left[key] = left - allowed, now
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]
        return allowed
