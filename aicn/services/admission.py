"""Admission: how many requests of a model run at once, and how many may wait.

    enter ──► running ──────────────► leave
         └──► waiting ─(a place is free)─► running
                      └─(cancelled)─► leave
    enter raises Busy when the queue is full.

First come, first served. All of it is plain state of one event loop: nothing here blocks but `Ticket.wait`.
"""

from __future__ import annotations

from collections import deque

import trio

from aicn.errors import Busy

_SMOOTHING = 0.1  # weight of the newest service time in the moving mean: about the last twenty requests count


class Ticket:
    """One request's place. `leave` must be called once it is done, however it ended; calling it again does nothing."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._turn: trio.Event | None = None  # set: may run; None: never waited
        self._started = 0.0
        self._left = False

    async def wait(self) -> None:
        """Until it may run: at once when there was a free place."""
        if self._turn is not None:
            await self._turn.wait()

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._admission._leave(self)  # noqa: SLF001 - the two classes are one


class Admission:
    """The places of one model."""

    def __init__(self, *, concurrency: int, queue: int) -> None:
        self.concurrency = concurrency
        self._queue = queue
        self._running: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()
        self._service_time = 1.0  # seconds a request runs, smoothed; a guess until the first has ended

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self) -> tuple[Ticket, int]:
        """A ticket and its position in the queue (0: it runs). Busy with advice when there is no room."""
        ticket = Ticket(self)
        if len(self._running) < self.concurrency and not self._waiting:
            self._start(ticket)
            return ticket, 0
        if len(self._waiting) >= self._queue:
            raise Busy(
                f"{len(self._running)} requests run and {len(self._waiting)} wait; the queue is full",
                retry_after=max(1.0, self._service_time * (len(self._waiting) + 1) / self.concurrency),
            )
        ticket._turn = trio.Event()  # noqa: SLF001
        self._waiting.append(ticket)
        return ticket, len(self._waiting)

    def _start(self, ticket: Ticket) -> None:
        ticket._started = trio.current_time()  # noqa: SLF001
        self._running.add(ticket)
        if ticket._turn is not None:  # noqa: SLF001
            ticket._turn.set()  # noqa: SLF001

    def _leave(self, ticket: Ticket) -> None:
        if ticket in self._running:
            self._running.remove(ticket)
            lasted = trio.current_time() - ticket._started  # noqa: SLF001
            self._service_time += _SMOOTHING * (lasted - self._service_time)
        else:
            self._waiting.remove(ticket)
        while self._waiting and len(self._running) < self.concurrency:
            self._start(self._waiting.popleft())
