"""Model endpoints without a network: scripted answers that fit `services.ports.Endpoints`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import trio

from aicn.domain.inference import Chunk, End, InferenceRequest
from aicn.domain.registration import Endpoint
from aicn.errors import DeadlineExceeded, ModelFailed
from aicn.services.ports import Answer

Step = bytes | trio.Event | AssertionError | Exception


class ScriptedAnswer(Answer):
    """Gives out the bytes of `steps`, waits at events, raises exceptions; then ends with `end`."""

    def __init__(self, steps: Sequence[Step], *, deadline: float = inf, end: End = End("stop")) -> None:
        self._steps = list(steps)
        self._deadline = deadline
        self._end = end
        self.closed = False

    async def receive(self) -> Chunk:
        await trio.lowlevel.checkpoint()
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, trio.Event):
                with trio.CancelScope(deadline=self._deadline) as scope:
                    await step.wait()
                if scope.cancelled_caught:
                    raise DeadlineExceeded("too late")
            elif isinstance(step, Exception):
                raise step
            else:
                return Chunk(step)
        self.end = self._end
        raise trio.EndOfChannel

    async def aclose(self) -> None:
        self.closed = True


class ScriptedEndpoints:
    """`script(request)` gives the steps of each answer, or raises. Remembers what was asked and answered."""

    def __init__(self, script: Callable[[InferenceRequest], Sequence[Step]]) -> None:
        self._script = script
        self.requests: list[tuple[Endpoint, InferenceRequest]] = []
        self.answers: list[ScriptedAnswer] = []
        self.probed: list[Endpoint] = []
        self.broken: set[str] = set()  # URLs whose probe fails

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        await trio.lowlevel.checkpoint()
        self.requests.append((endpoint, request))
        self.answers.append(ScriptedAnswer(self._script(request), deadline=request.deadline))
        return self.answers[-1]

    async def probe(self, endpoint: Endpoint) -> None:
        await trio.lowlevel.checkpoint()
        self.probed.append(endpoint)
        if endpoint.url in self.broken:
            raise ModelFailed(f"{endpoint.model} does not work")
