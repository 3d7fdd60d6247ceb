"""Admission: how many requests of a model run at once, how many may wait, and whose turn it is.

    enter ──► running ──────────────────────► leave
         └──► waiting ─(its turn)─► running
                 ├─(the client has gone)─► leave
                 └─(its place goes to another principal)─► Busy
    enter raises Busy when the queue is full, or the wait would be too long.

Those who ask (principals) are served in turn, each one's requests in their order: deficit round robin (Shreedhar and Varghese, 1996).
A turn is worth the model's mean service time; who asks for more saves up for it, by the mean of its own requests, which nobody can
lie about. While several ask, nobody gets more than an equal share of the running places; what others leave free, anyone may take.

All of it is plain state of one event loop: nothing here blocks but `Ticket.wait`. Entering and leaving cost a few microseconds,
however many wait; only entering a full queue looks at all principals.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from math import inf

import trio

from aicn.errors import Busy

_SMOOTHING = 0.1  # weight of the newest service time in the moving mean: about the last twenty requests count
_MOST_TURNS = 4  # that one request is saved up for: else one long answer would keep its principal out for very long


class _Mean:
    """Service times, seconds: their mean, and soon a moving one."""

    __slots__ = ("_count", "seconds")

    def __init__(self) -> None:
        self.seconds = 1.0  # a guess until the first has been measured
        self._count = 0

    @property
    def known(self) -> bool:
        return self._count > 0

    def add(self, seconds: float) -> None:
        self._count += 1
        self.seconds += max(_SMOOTHING, 1 / self._count) * (seconds - self.seconds)


class _Principal:
    """Who asks, while a request of it runs or waits."""

    __slots__ = ("credit", "entered", "name", "running", "service", "turn", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = 0
        self.waiting: OrderedDict[int, Ticket] = OrderedDict()  # by number, in order
        self.entered = 0  # how many have waited: the number of the next
        self.turn = 0  # orders those that wait for their turn
        self.credit = 0  # turns it has saved up
        self.service = _Mean()

    def cost(self, usual: float) -> int:
        """Turns that one of its requests is worth, when a request usually takes `usual` seconds."""
        if not self.service.known or self.service.seconds <= 1.5 * usual:
            return 1
        return min(_MOST_TURNS, round(self.service.seconds / usual)) if usual else _MOST_TURNS


class Ticket:
    """One request's place. `leave` must be called once it is done, however it ended; calling it again does nothing."""

    __slots__ = (
        "_admission",
        "_left",
        "number",
        "principal",
        "reclaim",
        "refusal",
        "started",
        "turn",
        "unread_since",
    )

    def __init__(self, admission: Admission, principal: _Principal) -> None:
        self._admission = admission
        self.principal = principal
        self.number = -1  # among those of its principal that have waited; -1: it never has
        self.turn: trio.Event | None = None  # set: may run, or was refused; None: never waited
        self.refusal: Busy | None = None
        self.started = 0.0
        self._left = False
        self.unread_since: float | None = None  # trio.current_time(); None: its client has taken all there is
        self.reclaim: Callable[[], Awaitable[None]] | None = None  # ends the request for the sake of others

    async def wait(self) -> None:
        """Until it may run: at once when there was a free place. Busy when its place in the queue went to another principal."""
        if self.turn is not None:
            await self.turn.wait()
        if self.refusal is not None:
            raise self.refusal

    def outlook(self) -> tuple[int, float]:
        """Its position in the queue (0: it runs), and about how many seconds it has yet to wait."""
        return self._admission._outlook(self)  # noqa: SLF001 - the two classes are one

    async def reclaim_unread(self, seconds: float) -> None:
        """End the request of another principal whose client has taken nothing for the longest time, `seconds` at least."""
        ticket = self._admission._unread(self.principal, trio.current_time() - seconds)  # noqa: SLF001
        if ticket is not None and ticket.reclaim is not None:
            await ticket.reclaim()

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._admission._leave(self)  # noqa: SLF001


class Admission:
    """The places of one model."""

    def __init__(self, *, concurrency: int, queue: int) -> None:
        self.concurrency = concurrency
        self._queue = queue
        self._running: set[Ticket] = set()
        self._principals: dict[str, _Principal] = {}  # of which a request runs or waits
        self._ring: OrderedDict[str, _Principal] = OrderedDict()  # of which one waits; the first has the next turn
        self._last = ""  # who had the last turn
        self._turns = 0  # given out so far: numbers the places in the ring
        self._waiting = 0
        self._service = _Mean()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return self._waiting

    def enter(self, principal: str = "", *, patience_s: float = inf) -> tuple[Ticket, int]:
        """A ticket and its position in the queue (0: it runs).

        Busy with advice when there is no room, or when the wait is likely to be longer than `patience_s`.
        """
        who = self._principals.get(principal) or _Principal(principal)
        ticket = Ticket(self, who)
        if len(self._running) < self.concurrency:
            self._principals[principal] = who
            self._start(ticket)
            return ticket, 0
        position = self._position(who, len(who.waiting))
        wait_s = self._expected(position)
        if self._service.known and wait_s > patience_s:
            raise Busy(
                f"a place is likely to be free in {wait_s:.1f} s, which is too late", retry_after=max(1.0, wait_s)
            )
        if self._waiting >= self._queue:
            self._make_room(who, wait_s)
        self._principals[principal] = who
        self._enqueue(ticket)
        return ticket, position

    def _enqueue(self, ticket: Ticket) -> None:
        who = ticket.principal
        ticket.turn = trio.Event()
        ticket.number = who.entered
        who.entered += 1
        who.waiting[ticket.number] = ticket
        self._waiting += 1
        if len(who.waiting) == 1:
            self._join(who)

    def _make_room(self, who: _Principal, wait_s: float) -> None:
        """Take a place from the principal that has the most, when it has more than `who` would have. Busy when nobody has."""
        greediest = max(self._ring.values(), key=lambda other: len(other.waiting), default=who)
        busy = Busy(
            f"{len(self._running)} requests run and {self._waiting} wait; the queue is full",
            retry_after=max(1.0, wait_s),
        )
        if len(greediest.waiting) <= len(who.waiting) + 1:
            raise busy
        _, newest = greediest.waiting.popitem()  # another remains: it keeps its place in the ring
        self._waiting -= 1
        newest._left = True  # noqa: SLF001
        newest.refusal = busy
        assert newest.turn is not None
        newest.turn.set()

    def _start(self, ticket: Ticket) -> None:
        ticket.started = trio.current_time()
        ticket.principal.running += 1
        self._last = ticket.principal.name
        self._running.add(ticket)
        if ticket.turn is not None:
            ticket.turn.set()

    def _leave(self, ticket: Ticket) -> None:
        who = ticket.principal
        if ticket in self._running:
            self._running.remove(ticket)
            who.running -= 1
            lasted = trio.current_time() - ticket.started
            self._service.add(lasted)
            who.service.add(lasted)
        else:
            self._unqueue(ticket)
        if not who.running and not who.waiting:
            del self._principals[who.name]
        while self._ring and len(self._running) < self.concurrency:
            ticket = self._next()
            self._unqueue(ticket)
            self._start(ticket)

    def _unqueue(self, ticket: Ticket) -> None:
        who = ticket.principal
        del who.waiting[ticket.number]
        self._waiting -= 1
        if not who.waiting:
            del self._ring[who.name]
            who.credit = 0

    def _next(self) -> Ticket:
        """Whose turn it is: the first in the ring that has not got its share and has saved up enough.

        When all that wait have their share, others that do not wait have less: the places they leave are anyone's.
        """
        share: float = -(-self.concurrency // len(self._principals))
        passed = 0  # in a row
        while True:
            who = next(iter(self._ring.values()))
            if who.running >= share:
                passed += 1
                if passed == len(self._ring):
                    share = inf
            else:
                passed = 0
                who.credit += 1
                cost = who.cost(self._service.seconds)
                if who.credit >= cost:
                    who.credit -= cost
                    self._to_the_end(who)
                    return next(iter(who.waiting.values()))
            self._to_the_end(who)

    def _join(self, who: _Principal) -> None:
        """Its turn comes after all others'; but whoever had the last one and is alone in the ring does not have two in a row."""
        first = self._goes_first()
        self._to_the_end(who)
        if first:
            self._to_the_end(self._principals[self._last])

    def _goes_first(self) -> bool:
        """Whether one that joins the ring now has the next turn."""
        return len(self._ring) == 1 and self._last in self._ring

    def _to_the_end(self, who: _Principal) -> None:
        self._turns += 1
        who.turn = self._turns
        self._ring[who.name] = who
        self._ring.move_to_end(who.name)

    def _outlook(self, ticket: Ticket) -> tuple[int, float]:
        who = ticket.principal
        if ticket.number not in who.waiting:
            return 0, 0.0
        position = self._position(who, ticket.number - next(iter(who.waiting)))
        return position, self._expected(position)

    def _position(self, who: _Principal, before: int) -> int:
        """At most how many are served before this is over for one that has `before` of its own principal before it, itself included."""
        rivals = len(self._ring)
        if who.waiting:
            place = min(rivals, who.turn - next(iter(self._ring.values())).turn + 1)
        else:
            rivals += 1
            place = 1 if self._goes_first() else rivals
        return min(self._waiting + (before >= len(who.waiting)), before * rivals + place)

    def _expected(self, position: int) -> float:
        """Seconds until so many have had their turn."""
        return self._service.seconds * position / self.concurrency

    def _unread(self, waits: _Principal, until: float) -> Ticket | None:
        """That runs, whose client has taken nothing since `until` or longer, and which is not of the principal that `waits`."""
        unread = [
            (ticket.unread_since, id(ticket), ticket)
            for ticket in self._running
            if ticket.unread_since is not None and ticket.unread_since <= until and ticket.principal is not waits
        ]
        return min(unread)[-1] if unread else None
