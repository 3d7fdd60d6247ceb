"""Errands to nodes: each node once at a time, a few nodes at once, in the order in which they were thought of."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from aicn.domain.ids import PeerId

log = logging.getLogger(__name__)


class Errands:
    """What is to be done with nodes. `do` may raise; that ends its own errand only."""

    def __init__(self, what: str, do: Callable[[PeerId], Awaitable[None]], *, at_once: int, most: int) -> None:
        self._what = what
        self._do = do
        self._at_once = at_once
        self._most = most  # that wait; others are turned away
        self._waiting: dict[PeerId, None] = {}
        self._running: set[PeerId] = set()
        self._again: set[PeerId] = set()  # of them, once they are done
        self._ready = trio.Semaphore(0)  # as many as wait

    def __contains__(self, node: PeerId) -> bool:
        return node in self._waiting or node in self._running

    def add(self, node: PeerId, *, again: bool = False) -> bool:
        """Have it done; False when there are too many already. Does nothing while the same waits or runs.

        `again`: what runs may be over with things as they were; then it is done once more.
        """
        if node in self:
            if again and node in self._running:
                self._again.add(node)
            return True
        if len(self._waiting) >= self._most:
            return False
        self._waiting[node] = None
        self._ready.release()
        return True

    async def run(self) -> None:
        """Do what comes, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._at_once):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            await self._ready.acquire()
            node = next(iter(self._waiting))
            del self._waiting[node]
            self._running.add(node)
            try:
                await self._do(node)
            except Exception:
                log.exception("%s: node %s", self._what, node)
            finally:
                self._running.discard(node)
                if node in self._again:
                    self._again.discard(node)
                    self.add(node)
