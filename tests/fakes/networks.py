"""Nodes that all offer one model, without a network: what dispatch makes of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Self, cast

import trio

from aicn.config.schema import Limits, Routing
from aicn.domain.ids import PeerId
from aicn.domain.inference import End, InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.domain.routing import Trace
from aicn.errors import AicnError
from aicn.services.dispatch import open_dispatch
from aicn.services.ports import Answer, Links
from aicn.services.routing import Router
from tests.fakes.answers import ScriptedAnswer, Step
from tests.fakes.routers import AsGiven

NODES = [PeerId(f"16Uiu2HAm{name * 37}{number:08}") for number, name in enumerate("ABCDEFG")]


class Network:
    """Nodes that all offer one model; `behaviours` in the order of the directory: the steps of an answer, or a refusal.

    As a block it is the dispatch to them. Nodes in `frozen` answer no ping.
    """

    def __init__(
        self,
        *behaviours: Sequence[Step] | AicnError | Callable[[InferenceRequest], Sequence[Step]],
        router: Router | None = None,
        routing: Routing = Routing(),
    ) -> None:
        self.behaviours = dict(zip(NODES, behaviours, strict=False))
        self.asked: list[PeerId] = []
        self.requests: list[InferenceRequest] = []
        self.answers: list[ScriptedAnswer] = []
        self.questions: list[tuple[str, str | None, Kind | None]] = []
        self.frozen: set[PeerId] = set()
        self.pinged: list[PeerId] = []
        self.finished: list[Trace] = []
        self._router = router or AsGiven()
        self._routing = routing
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        limits = Limits(answer_bytes=1024)
        means = {"own": PeerId("own"), "links": cast("Links", self), "limits": limits, "routing": self._routing}
        self.dispatch = await self._open.enter_async_context(open_dispatch(self, self, self._router, **means))
        self.dispatch.on_finished(lambda trace, _: self.finished.append(trace))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def providers(self, project: str, model: str | None, *, kind: Kind | None = None, most: int) -> list[Provider]:
        self.questions.append((project, model, kind))
        return [Provider(node, OfferedModel("M", Kind.CHAT), self.link(node)) for node in self.behaviours][:most]

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        self.asked.append(node)
        self.requests.append(request)
        behaviour = self.behaviours[node]
        if callable(behaviour):
            behaviour = behaviour(request)
        if isinstance(behaviour, AicnError):
            raise behaviour
        answer = ScriptedAnswer(behaviour, deadline=request.deadline, end=End("stop", total_ms=7))
        answer.node = node
        self.answers.append(answer)
        return answer

    def link(self, peer: PeerId) -> Link:
        return Link(Connectivity.CONNECTED, 0.01)

    async def measure(self, peer: PeerId) -> Link:
        self.pinged.append(peer)
        if peer in self.frozen:
            await trio.sleep_forever()
        await trio.sleep(0.01)
        return self.link(peer)


def a_request(
    body: object = None, *, seconds: float = 60, stream: bool = True, kind: Kind = Kind.CHAT
) -> InferenceRequest:
    text = json.dumps(body or {"messages": [{"role": "user", "content": "Hello"}]}).encode()
    return InferenceRequest("r", kind, "P", "M", text, stream=stream, deadline=trio.current_time() + seconds)


async def read(answer: Answer) -> bytes:
    """All that the client is sent; errors as they come."""
    return b"".join([chunk.data async for chunk in answer])
