"""Requests by project and model: the directory says who offers the model, and they are asked one after the other.

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
from aicn.errors import AicnError, Busy, DeadlineExceeded, Fault, ModelFailed, NoNode, UnknownNode
from aicn.services.ports import Answer

log = logging.getLogger(__name__)

_ATTEMPTS = 5  # nodes asked for one request: when so many fail, it is the request or the network
_REASON_CHARS = 160  # of what one node said, so that the message about all of them stays a line


class Directory(Protocol):
    """Who offers what."""

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> Sequence[Provider]:
        """At most `most` nodes, this one included, in the order in which to ask them."""


class Asking(Protocol):
    """Sends a request to one node."""

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `node`, admitted there."""


class BegunAnswer(Answer):
    """An answer whose first chunk has been received already."""

    def __init__(self, answer: Answer, first: Chunk) -> None:
        self.node = answer.node
        self.accepted = answer.accepted
        self._answer = answer
        self._first: Chunk | None = first

    async def receive(self) -> Chunk:
        if (first := self._first) is not None:
            self._first = None
            return first
        try:
            return await self._answer.receive()
        except trio.EndOfChannel:
            self.end = self._answer.end
            raise

    async def aclose(self) -> None:
        await self._answer.aclose()


class Dispatch:
    """Finds a node that answers."""

    def __init__(self, directory: Directory, inference: Asking) -> None:
        self._directory = directory
        self._inference = inference

    async def open(self, request: InferenceRequest) -> Answer:
        """An answer that has begun, of the first node that gives one.

        NoNode when nobody offers the model or all have failed, DeadlineExceeded when the request's own time is over, and at once
        whatever is the caller's fault. Cancelled, it abandons the node that it is at.
        """
        providers = self._directory.providers(request.project, request.model, kind=request.kind, most=_ATTEMPTS)
        if not providers:
            raise NoNode(f"no node offers model {request.model} of project {request.project}")
        failures: list[tuple[PeerId, AicnError]] = []
        for provider in providers:
            try:
                return await self._begin(provider.node, request)
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

    async def _begin(self, node: PeerId, request: InferenceRequest) -> Answer:
        answer = await self._inference.open(node, request)
        try:
            first = await answer.receive()
        except trio.EndOfChannel:
            await answer.aclose()
            raise ModelFailed("it answered nothing") from None
        except BaseException:
            await answer.aclose()
            raise
        return BegunAnswer(answer, first)


def _is_the_callers(error: AicnError) -> bool:
    """Whether no other node would do better. A node that cannot be found was the directory's choice, not the caller's."""
    return error.fault is Fault.CALLER and not isinstance(error, UnknownNode)


def _told(failures: Sequence[tuple[PeerId, AicnError]]) -> str:
    """Who failed, and how: one line. Peers by the end of their id, since all begin alike."""
    return "; ".join(f"…{node[-8:]}: {_reason(node, error)}" for node, error in failures)


def _reason(node: PeerId, error: AicnError) -> str:
    text = " ".join(error.message.replace(f"peer {node}", "it").split())
    return text if len(text) <= _REASON_CHARS else f"{text[: _REASON_CHARS - 1]}…"
