"""The search for a node that begins to answer: one candidate after the other, and a second one beside a slow one.

Nothing of it reaches the client but comments, so whoever fails is passed over in silence.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.domain.routing import Attempt, Trace
from aicn.errors import AicnError, Busy, DeadlineExceeded, Fault, NoNode, UnknownNode
from aicn.services.attempts import Asking, Leg, Watch
from aicn.services.routing import Router

log = logging.getLogger(__name__)

_ATTEMPTS = 5  # nodes asked in one search: when so many fail, it is the request or the network
_REASON_CHARS = 160  # of what one node said, so that the message about all of them stays a line
_HEDGED = (Kind.CHAT, Kind.COMPLETION, Kind.EMBEDDING)  # asking twice draws nothing twice
_HEDGES = 0.05  # of all requests at most
_MOST_HEDGES = 5.0  # in a row


class Hedges:
    """How many requests may be asked twice: a share of those that there were, and none before them."""

    def __init__(self, *, allowed: bool) -> None:
        self._each = _HEDGES if allowed else 0.0
        self._left = 0.0

    def requested(self) -> None:
        self._left = min(_MOST_HEDGES, self._left + self._each)

    def take(self) -> bool:
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Means:
    """What it takes to ask."""

    inference: Asking
    router: Router
    watch: Watch
    hedges: Hedges
    route: Callable[[InferenceRequest], Sequence[Provider]]  # who would be asked now; errors as Dispatch.open


@dataclass(slots=True)
class _Rival:
    """A node that is asked beside the one that was asked first."""

    leg: Leg
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    first: Chunk | None = None  # its answer has begun


class _Overtaken(AicnError):
    """The rival was faster."""


class Search:
    """Asks `asked`, in this order."""

    def __init__(
        self, means: Means, request: InferenceRequest, asked: Sequence[Provider], trace: Trace, *, resumes: bool = False
    ) -> None:
        """`resumes`: a part of the answer has been told: whatever fails now is no fault of the caller's."""
        self.failures: list[tuple[PeerId, AicnError]] = []
        self.leg: Leg | None = None  # that is asked, or has begun
        self._means = means
        self._request = request
        self._asked = deque(asked[:_ATTEMPTS])
        self._trace = trace
        self._resumes = resumes
        self._rival: _Rival | None = None

    async def receive(self) -> Chunk:
        """The first chunk of an answer, then `leg` has begun and the search is over; or a comment, then there is more.

        NoNode when all have failed, DeadlineExceeded when the request's time is over, at once whatever is the caller's fault.
        """
        while True:
            rival = self._rival
            if rival is not None and rival.first is not None:
                return await self._overtaken(rival)
            leg = self.leg
            try:
                if leg is None:
                    leg = self.leg = self._start(self._next())
                    leg.on_slow = self._hedge if self._request.kind in _HEDGED else None
                    chunk = await leg.begin(self._means.inference)
                else:
                    chunk = await leg.receive()
            except _Overtaken:
                continue
            except AicnError as error:
                if leg is None:
                    raise
                await self._failed(leg, error)
                continue
            if leg.begun:
                self._leave_rival()
            return chunk

    async def aclose(self) -> None:
        """Abandon whoever is asked."""
        self._leave_rival()
        if self.leg is not None:
            await self.leg.aclose()

    def _start(self, provider: Provider, *, hedge: bool = False) -> Leg:
        now, way = trio.current_time(), self._means
        attempt = Attempt(provider.node, now, relayed=provider.link.relayed, hedge=hedge, resumed=self._resumes)
        self._trace.attempts.append(attempt)
        return Leg(provider, self._request, attempt, router=way.router, watch=way.watch, alone=self._alone)

    def _alone(self) -> bool:
        """Whether nobody but the one that is waited for can be asked."""
        if self.leg is None or not self.leg.begun:
            return not self._asked
        try:
            return len(self._means.route(self._request)) < 2
        except AicnError:
            return True

    def _next(self) -> Provider:
        request, failures = self._request, self.failures
        if failures and trio.current_time() >= request.deadline:
            raise DeadlineExceeded(f"the request's deadline has passed: {told(failures)}")
        if self._asked:
            return self._asked.popleft()
        waits = [error.retry_after for _, error in failures if isinstance(error, Busy) and error.retry_after]
        raise NoNode(
            f"none of {len(failures)} nodes has answered for model {request.model} of project {request.project}: {told(failures)}",
            retry_after=min(waits, default=None),
        )

    async def _failed(self, leg: Leg, error: AicnError) -> None:
        """Returns when another one may be asked."""
        self.leg = None
        leg.end(error)
        await leg.aclose()
        if error.fault is Fault.CALLER and not isinstance(error, UnknownNode) and not self._resumes:
            self._leave_rival()
            raise error  # no other node would do better; one that cannot be found was the directory's choice
        log.info("request %s: node %s failed: %s", self._request.id, leg.provider.node, error.message)
        self.failures.append((leg.provider.node, error))
        if (rival := self._rival) is not None:
            await rival.done.wait()
            if rival.first is None:
                self._rival = None

    # ---- hedging ----

    def _hedge(self) -> None:
        """The node is slower than nearly all before it: another one is asked beside it, if that is not done too often."""
        if self._asked and self._rival is None and self._means.hedges.take():
            self._rival = rival = _Rival(self._start(self._asked.popleft(), hedge=True))
            self._means.watch.nursery.start_soon(self._race, rival)

    async def _race(self, rival: _Rival) -> None:
        leg = rival.leg
        error: AicnError | None = None
        try:
            with rival.scope:
                rival.scope.deadline = self._request.deadline
                chunk = await leg.begin(self._means.inference)
                while chunk.comment:
                    chunk = await leg.receive()
                rival.first = chunk
        except AicnError as failure:
            error = failure
            self.failures.append((leg.provider.node, failure))
        except Exception:
            log.exception("request %s: a hedge failed", self._request.id)
        finally:
            if rival.first is None:
                leg.end(error)
                await leg.aclose()
                self._rival = None
            rival.done.set()
        if rival.first is not None and self.leg is not None:
            self.leg.give_up(_Overtaken("another node was faster"))

    async def _overtaken(self, rival: _Rival) -> Chunk:
        """The rival's answer is the answer."""
        slow, self.leg, self._rival = self.leg, rival.leg, None
        if slow is not None:
            slow.end(DeadlineExceeded("another node was faster"))  # a frozen one may show no other sign
            await slow.aclose()
        assert rival.first is not None  # why we are here
        return rival.first

    def _leave_rival(self) -> None:
        rival, self._rival = self._rival, None
        if rival is None:
            return
        rival.scope.cancel()
        if rival.first is not None:  # it has begun as well, at the same moment
            self._means.watch.nursery.start_soon(rival.leg.aclose)


def told(failures: Sequence[tuple[PeerId, AicnError]]) -> str:
    """Who failed, and how: one line. Peers by the end of their id, since all begin alike."""
    return "; ".join(f"…{node[-8:]}: {_reason(node, error)}" for node, error in failures)


def _reason(node: PeerId, error: AicnError) -> str:
    text = " ".join(error.message.replace(f"peer {node}", "it").split())
    return text if len(text) <= _REASON_CHARS else f"{text[: _REASON_CHARS - 1]}…"
