"""One node asked for one answer, within its budget; and the one task that watches all of them.

Silence has two causes that look alike from the tokens. So it is a question of its own whether a silent node lives: after a second
without a chunk it is pinged, and one whose connection does not answer within another is *frozen* and left at once, if there is
anybody else to ask. One that answers is slow, or its queue is long: it keeps its time, and its request may be hedged.

There is no timer per chunk: an attempt notes since when it waits, and the watch looks at all attempts twenty times a second.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, InferenceRequest
from aicn.domain.nodes import Connectivity
from aicn.domain.offers import Provider
from aicn.domain.routing import Attempt
from aicn.errors import AicnError, DeadlineExceeded, ModelFailed, Unreachable
from aicn.services.ports import Answer, Links
from aicn.services.routing import Router

_TICK_S = 0.05  # between two looks: the shortest delay after which a request may be hedged
_SILENT_S = 1.0  # without a chunk: then the node is pinged, and …
_LONGEST_PAUSE_S = 8.0  # … again after as long as it has been silent, this at most
_PONG_S = 1.0  # for the answer: a connection that lives needs a round trip, also when its model is busy
_FRESH_S = 0.5  # for so long an answer holds for all that wait for the node
_ALIVE_GAPS = 4  # times the gap of its budget that a node may be silent inside an answer while it answers pings, …
_ALIVE_S = 10.0  # … and this at least: engines stop all streams while they read a long prompt


class Asking(Protocol):
    """Sends a request to one node."""

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `node`, admitted there."""


class Watch:
    """Looks at what waits, and asks nodes whether they live."""

    def __init__(self, nursery: trio.Nursery, own: PeerId, links: Links) -> None:
        """`nursery` is the parent of all that is done beside a request: pings, hedges."""
        self.nursery = nursery
        self._own = own
        self._links = links
        self._legs: set[Leg] = set()
        self._some = trio.Event()  # to be looked at
        self._asked: dict[PeerId, trio.Event] = {}  # pings under way
        self._alive: dict[
            PeerId, tuple[bool, float]
        ] = {}  # what came of the last one, and when; those under way and fresh

    async def run(self) -> None:
        while True:
            if not self._legs:
                self._some = trio.Event()
                self._alive.clear()
                await self._some.wait()
            await trio.sleep(_TICK_S)
            now = trio.current_time()
            for leg in [leg for leg in self._legs if leg.due <= now]:
                leg.look(now)

    def add(self, leg: Leg) -> None:
        if not self._legs:
            self._some.set()
        self._legs.add(leg)

    def remove(self, leg: Leg) -> None:
        self._legs.discard(leg)

    async def lives(self, node: PeerId) -> bool:
        """Whether its connection answers. This node lives, and so does one that is not connected: nobody can tell."""
        if node == self._own or self._links.link(node).connectivity is not Connectivity.CONNECTED:
            return True
        if (asked := self._asked.get(node)) is not None:
            await asked.wait()
        alive, when = self._alive.get(node, (False, -inf))
        if trio.current_time() - when < _FRESH_S:
            return alive
        asked = self._asked[node] = trio.Event()
        try:
            alive = False
            with trio.move_on_after(_PONG_S):
                alive = (await self._links.measure(node)).connectivity is Connectivity.CONNECTED
            self._alive[node] = alive, trio.current_time()
        finally:
            del self._asked[node]
            asked.set()
        return alive


class Leg:
    """One attempt: `begin`, then `receive` until it raises; `end` once, whatever came of it."""

    def __init__(
        self,
        provider: Provider,
        request: InferenceRequest,
        attempt: Attempt,
        *,
        router: Router,
        watch: Watch,
        alone: Callable[[], bool],
    ) -> None:
        """`alone`: whether there is nobody else to ask, so that it is not given up for its silence."""
        self.provider = provider
        self.attempt = attempt
        self._answer: Answer | None = None
        self.begun = False  # a chunk of the answer itself has come
        self.due = attempt.began  # when the watch looks next
        self.on_slow: Callable[[], None] | None = None  # called once when a hedge is due
        self._request = request
        self._router = router
        self._watch = watch
        self._alone = alone
        self._budget = router.budget(provider, request)
        self._waits = False
        self._since = attempt.began  # it waits since then
        self._silence_s = 0.0  # the longest
        self._scope: trio.CancelScope | None = None  # of what waits, where the answer has none itself
        self._verdict: AicnError | None = None  # why the wait was ended
        self._over = False

    @property
    def answer(self) -> Answer:
        """Of the node, which has taken the request."""
        assert self._answer is not None
        return self._answer

    async def begin(self, inference: Asking) -> Chunk:
        """Ask the node; the first chunk, which may be a comment. Errors of the node; DeadlineExceeded, Unreachable for its silence."""
        self._router.started(self.provider)
        self._watch.add(self)
        self._waits = True
        try:
            with trio.CancelScope() as self._scope:
                self._answer = answer = await inference.open(self.provider.node, self._request)
                self._since = trio.current_time()
                self.attempt.accepted_s = self._since - self.attempt.began
                self._router.admitted(self.provider, answer.accepted)
                return self._came(await answer.receive())
        except trio.EndOfChannel:
            raise ModelFailed("it answered nothing") from None
        finally:
            self._waits = False
            self._scope = None
        assert self._verdict is not None  # nobody else cancels it
        raise self._verdict

    async def receive(self) -> Chunk:
        """The next chunk; errors as `begin`."""
        answer = self.answer
        self._since = trio.current_time()
        self._waits = True
        try:
            chunk = await (answer.receive() if answer.interruptible else self._in_scope(answer))
        except trio.EndOfChannel:
            if self.begun:
                raise
            raise ModelFailed("it answered nothing") from None
        except AicnError:
            if self._verdict is not None:
                raise self._verdict from None
            raise
        finally:
            self._waits = False
        return self._came(chunk)

    async def _in_scope(self, answer: Answer) -> Chunk:
        with trio.CancelScope() as self._scope:
            return await answer.receive()
        assert self._verdict is not None
        raise self._verdict

    def _came(self, chunk: Chunk) -> Chunk:
        if chunk.comment:
            return chunk
        now = trio.current_time()
        attempt = self.attempt
        attempt.chunks += 1
        if not self.begun:
            self.begun = True
            attempt.first_s = now - attempt.began
            self._router.first_chunk(self.provider, self._request, attempt.first_s)
        elif now - self._since > self._silence_s:
            self._silence_s = now - self._since
        return chunk

    def give_up(self, error: AicnError) -> None:
        """Let what waits raise `error`; does nothing when nobody waits."""
        if not self._waits:
            return
        self._verdict = error
        scope = self._scope or (self._answer and self._answer.waiting)
        if scope:
            scope.cancel()

    def end(self, error: AicnError | None) -> None:
        """It is over. `error`: why it did not answer to the end; None: it did, or it was not its fault."""
        if self._over:
            return
        self._over = True
        self._watch.remove(self)
        attempt = self.attempt
        attempt.ended_s = trio.current_time() - attempt.began
        attempt.error = "" if error is None else error.code
        if self._answer is not None and self._answer.end is not None:
            attempt.queued_ms = self._answer.end.queued_ms
        seconds = 0.0 if attempt.first_s is None else attempt.ended_s - attempt.first_s
        self._router.ended(
            self.provider, error=error, chunks=attempt.chunks, seconds=seconds, silence_s=self._silence_s
        )

    async def aclose(self) -> None:
        """Abandon it if it is not over."""
        self.end(None)
        if self._answer is not None:
            await self._answer.aclose()

    # ---- seen by the watch ----

    def look(self, now: float) -> None:
        """Called when `due`."""
        if not self._waits:
            self.due = now + _SILENT_S
            return
        attempt, budget = self.attempt, self._budget
        checks = [self._since + _SILENT_S]
        if self.on_slow is not None and budget.hedge_s is not None and not self.begun:
            checks.append(attempt.began + budget.hedge_s)
            if checks[-1] <= now:
                checks.pop()
                slow, self.on_slow = self.on_slow, None
                slow()
        if attempt.accepted_s is None:
            checks.append(attempt.began + budget.accept_s)
            if checks[-1] <= now:
                self.give_up(DeadlineExceeded(f"it has not taken the request within {budget.accept_s:.0f} s"))
        if self._since + _SILENT_S <= now:
            self.due = inf
            self._watch.nursery.start_soon(self._judge, self._since)
        else:
            self.due = min(checks)

    async def _judge(self, since: float) -> None:
        """It has been silent since then: is it frozen, or too slow?"""
        alive = await self._watch.lives(self.provider.node)
        now = trio.current_time()
        if not self._waits or self._since != since:
            self.due = now
            return
        budget, silent = self._budget, now - since
        if self.begun:
            most = max(_ALIVE_S, _ALIVE_GAPS * budget.gap_s)
        else:
            most = budget.first_s if self.attempt.accepted_s is not None else budget.accept_s
        if not alive and not self._alone():
            self.give_up(Unreachable(f"it is silent for {silent:.1f} s and does not answer a ping"))
        elif silent >= most and not self._alone():
            self.give_up(DeadlineExceeded(f"it is silent for {silent:.1f} s"))
        pause = min(silent, _LONGEST_PAUSE_S)
        if self.on_slow is not None and budget.hedge_s is not None:
            pause = min(pause, max(_TICK_S, self.attempt.began + budget.hedge_s - now))
        self.due = now + pause
