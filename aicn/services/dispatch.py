"""Requests by project and model: the directory says who offers the model, the router in which order they are asked.

Here is who is asked; services/searching finds one that begins, services/lasting what becomes of the answer when that one dies.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from aicn.config.schema import Limits, Routing
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.domain.routing import Trace, Verdict
from aicn.errors import AicnError, InvalidRequest, NoNode
from aicn.services.attempts import Asking, Watch
from aicn.services.lasting import LastingAnswer, Observer
from aicn.services.ports import Answer, Links
from aicn.services.routing import Router
from aicn.services.searching import Hedges, Means

_CANDIDATES = 128  # nodes that are ranked for one request, the nearest


class Directory(Protocol):
    """Who offers what."""

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> Sequence[Provider]:
        """At most `most` nodes, this one included, the nearest first."""


class Dispatch:
    """Finds a node that answers, and another when that one fails."""

    def __init__(
        self, directory: Directory, inference: Asking, router: Router, watch: Watch, *, limits: Limits, routing: Routing
    ) -> None:
        self._directory = directory
        self._router = router
        self._means = Means(inference, router, watch, Hedges(allowed=routing.hedge), self._candidates)
        self._limits = limits
        self._resumes = routing.resume
        self._observers: list[Observer] = []

    def on_finished(self, observe: Observer) -> None:
        """Call `observe` with the trace of each request that is over, whatever came of it. It neither waits nor raises."""
        self._observers.append(observe)

    async def open(self, request: InferenceRequest, *, resume: bool = True) -> Answer:
        """An answer that has begun, or says how long it will take to; its `trace` tells whom it took.

        A streamed text that breaks off is gone on with by another node, unless `resume` is off here or in the configuration; a
        plain answer comes when it is whole.

        NoNode when nobody offers the model or all have failed, InvalidRequest when it is too long for all of them, DeadlineExceeded
        when the request's own time is over, and at once whatever is the caller's fault. Cancelled, it abandons the node that it
        is at.
        """
        trace = Trace(
            request.id,
            request.kind,
            request.project,
            request.model,
            request.stream,
            began=trio.current_time(),
            at=time.time(),
        )
        self._means.hedges.requested()
        answer = LastingAnswer(
            self._means,
            request,
            trace,
            resumes=resume and self._resumes,
            plain_bytes=self._limits.answer_bytes,
            observers=self._observers,
        )
        try:
            asked, trace.verdicts = self.route(request)
            await answer.start(asked)
        except AicnError as error:
            answer.finish(error.code)
            await answer.aclose()
            raise
        except BaseException:
            await answer.aclose()
            raise
        return answer

    def _candidates(self, request: InferenceRequest) -> Sequence[Provider]:
        return self.route(request)[0]

    def route(self, request: InferenceRequest) -> tuple[list[Provider], list[Verdict]]:
        """Whom `open` would ask for the request now, in that order, and why. Errors as there."""
        providers = self._providers(request)
        asked, verdicts = self._router.rank(request, providers)
        if not asked:
            longest = max(provider.model.context for provider in providers)
            raise InvalidRequest(f"the prompt is longer than any node takes ({longest} tokens)")
        return asked, verdicts

    def explain(self, project: str, model: str, kind: Kind) -> list[Verdict]:
        """What `open` would think now of each node for a short streamed request that begins a conversation. Nothing changes by it. NoNode."""
        request = InferenceRequest("", kind, project, model, b"", stream=kind is Kind.CHAT, deadline=0.0)
        return self._router.explain(request, self._providers(request))

    def _providers(self, request: InferenceRequest) -> Sequence[Provider]:
        providers = self._directory.providers(request.project, request.model, kind=request.kind, most=_CANDIDATES)
        if not providers:
            raise NoNode(f"no node offers model {request.model} of project {request.project}")
        return providers


@asynccontextmanager
async def open_dispatch(
    directory: Directory,
    inference: Asking,
    router: Router,
    *,
    own: PeerId,
    links: Links,
    limits: Limits,
    routing: Routing,
) -> AsyncIterator[Dispatch]:
    """Dispatch, and the watch over what it asks."""
    async with trio.open_nursery() as nursery:
        watch = Watch(nursery, own, links)
        nursery.start_soon(watch.run)
        yield Dispatch(directory, inference, router, watch, limits=limits, routing=routing)
        nursery.cancel_scope.cancel()
