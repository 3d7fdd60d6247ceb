"""Requests by project and model: the directory says who offers the model, the router in which order they are asked.

Another node is asked only while nothing of an answer has come: a client that has seen a beginning cannot be given another one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.domain.routing import Verdict
from aicn.errors import AicnError, Busy, DeadlineExceeded, Fault, InvalidRequest, ModelFailed, NoNode, UnknownNode
from aicn.services.ports import Answer
from aicn.services.routing import Router

log = logging.getLogger(__name__)

_CANDIDATES = 128  # nodes that are ranked for one request, the nearest
_ATTEMPTS = 5  # nodes asked for one request: when so many fail, it is the request or the network
_REASON_CHARS = 160  # of what one node said, so that the message about all of them stays a line


class Directory(Protocol):
    """Who offers what."""

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> Sequence[Provider]:
        """At most `most` nodes, this one included, the nearest first."""


class Asking(Protocol):
    """Sends a request to one node."""

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `node`, admitted there."""


class BegunAnswer(Answer):
    """An answer whose first chunk has been received already. The router is told how it goes on."""

    def __init__(self, answer: Answer, first: Chunk, provider: Provider, router: Router) -> None:
        self.node = answer.node
        self.accepted = answer.accepted
        self._answer = answer
        self._first: Chunk | None = first
        self._provider = provider
        self._router = router
        self._began = trio.current_time()
        self._chunks = 1
        self._over = False

    async def receive(self) -> Chunk:
        if (first := self._first) is not None:
            self._first = None
            return first
        try:
            chunk = await self._answer.receive()
        except trio.EndOfChannel:
            self.end = self._answer.end
            self._finish(None)
            raise
        except AicnError as error:
            self._finish(error)
            raise
        self._chunks += 1
        return chunk

    async def aclose(self) -> None:
        self._finish(None)
        await self._answer.aclose()

    def _finish(self, error: AicnError | None) -> None:
        if not self._over:
            self._over = True
            seconds = trio.current_time() - self._began
            self._router.ended(self._provider, error=error, chunks=self._chunks, seconds=seconds)


class Dispatch:
    """Finds a node that answers."""

    def __init__(self, directory: Directory, inference: Asking, router: Router) -> None:
        self._directory = directory
        self._inference = inference
        self._router = router

    async def open(self, request: InferenceRequest) -> Answer:
        """An answer that has begun, of the first node that gives one.

        NoNode when nobody offers the model or all have failed, InvalidRequest when it is too long for all of them, DeadlineExceeded
        when the request's own time is over, and at once whatever is the caller's fault. Cancelled, it abandons the node that it
        is at.
        """
        asked, _ = self.route(request)
        failures: list[tuple[PeerId, AicnError]] = []
        for provider in asked[:_ATTEMPTS]:
            try:
                return await self._begin(provider, request)
            except AicnError as error:
                if _is_the_callers(error):
                    raise
                log.info("request %s: node %s failed: %s", request.id, provider.node, error.message)
                failures.append((provider.node, error))
            if trio.current_time() >= request.deadline:
                raise DeadlineExceeded(f"the request's deadline has passed: {_told(failures)}")
        waits = [error.retry_after for _, error in failures if isinstance(error, Busy) and error.retry_after]
        raise NoNode(
            f"none of {len(failures)} nodes has answered for model {request.model} of project {request.project}: {_told(failures)}",
            retry_after=min(waits, default=None),
        )

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

    async def _begin(self, provider: Provider, request: InferenceRequest) -> Answer:
        began = trio.current_time()
        self._router.started(provider)
        failure: AicnError | None = None
        answered = False
        try:
            answer = await self._inference.open(provider.node, request)
            self._router.admitted(provider, answer.accepted)
            first = await _first_of(answer)
            answered = True
        except AicnError as error:
            failure = error
            raise
        finally:
            if not answered:
                self._router.ended(provider, error=failure, chunks=0, seconds=0.0)
        self._router.first_chunk(provider, request, trio.current_time() - began)
        return BegunAnswer(answer, first, provider, self._router)


async def _first_of(answer: Answer) -> Chunk:
    try:
        return await answer.receive()
    except trio.EndOfChannel:
        await answer.aclose()
        raise ModelFailed("it answered nothing") from None
    except BaseException:
        await answer.aclose()
        raise


def _is_the_callers(error: AicnError) -> bool:
    """Whether no other node would do better. A node that cannot be found was the directory's choice, not the caller's."""
    return error.fault is Fault.CALLER and not isinstance(error, UnknownNode)


def _told(failures: Sequence[tuple[PeerId, AicnError]]) -> str:
    """Who failed, and how: one line. Peers by the end of their id, since all begin alike."""
    return "; ".join(f"…{node[-8:]}: {_reason(node, error)}" for node, error in failures)


def _reason(node: PeerId, error: AicnError) -> str:
    text = " ".join(error.message.replace(f"peer {node}", "it").split())
    return text if len(text) <= _REASON_CHARS else f"{text[: _REASON_CHARS - 1]}…"
