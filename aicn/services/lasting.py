"""An answer that outlives its worker.

    nothing told yet ──(the node fails)──► the next one is asked, as if nothing had been (services/searching)
    a plain answer   ──(it breaks)───────► likewise: it is handed on when it is whole
    a streamed one   ──(it breaks)───────► what was told is read back, and another node goes on with it (wire/resume)

What has been handed on is kept as the bytes it was; nothing is parsed before something breaks.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, End, InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.domain.routing import Trace
from aicn.errors import AicnError, AnswerBroken, ModelFailed
from aicn.services.attempts import Leg
from aicn.services.ports import Answer
from aicn.services.searching import Means, Search
from aicn.wire import resume

log = logging.getLogger(__name__)

_RESUMES = 5  # of one answer without a new word between them
_KEPT_BYTES = 8 * 2**20  # of one answer's events, some 30,000 tokens: over it nobody goes on with it
_DONE_BYTES = 32  # at the end of a stream, among which `[DONE]` must be
_RESUMED = (Kind.CHAT, Kind.COMPLETION)

Observer = Callable[[Trace, InferenceRequest], None]  # of finished requests; neither waits nor raises


class LastingAnswer(Answer):
    """The answer of whichever nodes it takes."""

    def __init__(
        self,
        means: Means,
        request: InferenceRequest,
        trace: Trace,
        *,
        resumes: bool,
        plain_bytes: int,
        observers: Sequence[Observer],
    ) -> None:
        """`plain_bytes`: of a plain answer that are held until it is whole."""
        self.trace: Trace = trace
        self._means = means
        self._request = request
        self._resumable = resumes and request.stream and request.kind in _RESUMED
        self._plain_bytes = plain_bytes
        self._observers = observers
        self._search: Search | None = None  # while nobody has begun, or gone on
        self._leg: Leg | None = None  # who answers
        self._ready: deque[Chunk] = deque()  # handed on before all else
        self._last: End | None = None  # nothing follows what is ready
        self._told: list[bytes] = []  # handed on of a streamed answer, to be gone on with
        self._told_bytes = 0
        self._splice: resume.Splice | None = None  # joins what comes to what was told
        self._replayable = True
        self._fruitless = 0  # resumes since the last new word
        self._failure: AicnError = AnswerBroken("it was not begun")  # what the client was told at last, and is again
        self._over = False

    async def start(self, asked: Sequence[Provider]) -> None:
        """Ask these. Returns when one has begun, or told how long it will take. Errors as Dispatch.open."""
        self._search = Search(self._means, self._request, asked, self.trace)
        self._ready.appendleft(await self.receive())

    async def receive(self) -> Chunk:
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._last is not None:
                self.end = self._last
                self.finish("")
                raise trio.EndOfChannel
            try:
                if self._leg is None:
                    await self._begin()
                    continue
                chunk = await self._leg.receive()
                if self._splice is None:
                    return self._hand_on(chunk)
                self._join(self._splice, chunk)
            except trio.EndOfChannel:
                await self._complete()
            except resume.Differs:
                self._replayable = False
                await self._go_on(AnswerBroken("another node answers otherwise"), whose=None)
            except AicnError as error:
                if self._leg is None:
                    raise self._final(error) from None
                await self._go_on(error, whose=error)

    async def aclose(self) -> None:
        self.finish("cancelled")
        if self._search is not None:
            await self._search.aclose()
        if self._leg is not None:
            await self._leg.aclose()

    # ---- a node begins ----

    async def _begin(self) -> None:
        search = self._search
        if search is None:
            raise self._failure
        chunk = await search.receive()
        if chunk.comment:
            self._ready.append(chunk)
            return
        leg = search.leg
        assert leg is not None  # it has begun
        self._search, self._leg = None, leg
        self.node, self.accepted = leg.provider.node, leg.answer.accepted
        if self._splice is not None:
            text = f"aicn resumed node={self.node} attempt={len(self.trace.attempts)}"
            self._ready.append(Chunk(resume.comment(text), comment=True))
            self._join(self._splice, chunk)
        elif self._request.stream:
            self._ready.append(self._hand_on(chunk))
        else:
            await self._collect(leg, chunk)

    async def _collect(self, leg: Leg, chunk: Chunk) -> None:
        """The whole of a plain answer. One that breaks is asked for again elsewhere, since nothing of it was handed on."""
        pieces, size = [chunk], len(chunk.data)
        try:
            while size <= self._plain_bytes:  # whoever reads refuses a larger one
                pieces.append(await leg.receive())
                size += len(pieces[-1].data)
        except trio.EndOfChannel:
            self._last = leg.answer.end
            leg.end(None)
        except AicnError as error:
            self._leg = None
            leg.end(error)
            await leg.aclose()
            asked = self._others(leg.provider.node)
            log.info("request %s: node %s broke off: %s", self._request.id, leg.provider.node, error.message)
            self._fruitless += 1
            if not asked or self._fruitless > _RESUMES or trio.current_time() >= self._request.deadline:
                raise
            self._search = Search(self._means, self._request, asked, self.trace)
            return
        self._ready.extend(pieces)

    # ---- it goes on ----

    def _hand_on(self, chunk: Chunk) -> Chunk:
        if self._resumable:
            self._told.append(chunk.data)
            self._told_bytes += len(chunk.data)
            if self._told_bytes > _KEPT_BYTES:
                self._resumable = False
                self._told.clear()
        return chunk

    def _join(self, splice: resume.Splice, chunk: Chunk) -> None:
        """What is new in `chunk` is ready."""
        try:
            data = splice.feed(chunk.data)
        except ValueError as error:
            raise ModelFailed(str(error)) from None
        if data:
            self._fruitless = 0
            self._ready.append(self._hand_on(Chunk(data)))

    # ---- it ends ----

    async def _complete(self) -> None:
        """The node says that its answer is complete."""
        leg = self._leg
        assert leg is not None  # whose end it is
        if self._resumable and b"[DONE]" not in b"".join(self._told[-2:])[-_DONE_BYTES:]:
            broken = AnswerBroken("its answer ends without [DONE]")
            await self._go_on(broken, whose=broken)
            return
        leg.end(None)
        end = leg.answer.end or End()
        if (splice := self._splice) is not None:
            end = replace(end, finish_reason=splice.finish_reason or end.finish_reason, usage=splice.usage)
        self._last = end

    async def _go_on(self, error: AicnError, *, whose: AicnError | None) -> None:
        """The node that answered has failed with `error`; `whose`: what the router is told of it.

        Returns when another one is to be asked for the rest, or nothing is left to be asked. AnswerBroken.
        """
        leg, self._leg = self._leg, None
        assert leg is not None  # whose failure it is
        leg.end(whose)
        await leg.aclose()
        if not self._resumable:
            raise self._final(error)
        node, request = leg.provider.node, self._request
        told = resume.read(self._told, request.kind)
        self._told = [b"".join(self._told)]
        try:
            plan = resume.plan(request.body, request.kind, told, replayable=self._replayable)
        except (resume.Hopeless, AicnError) as why:  # its body is no JSON to us
            raise self._final(_broken(error, f"cannot be gone on with, since {why}", told)) from None
        if isinstance(plan, resume.Ending):
            self._last = End(plan.finish_reason, plan.usage)
            if plan.data:
                self._ready.append(Chunk(plan.data))
            return
        self._fruitless += 1
        asked = self._others(node)
        if not asked or self._fruitless > _RESUMES or trio.current_time() >= request.deadline:
            raise self._final(_broken(error, "nobody else could go on with it", told))
        log.info("request %s: node %s broke off: %s; another one goes on", request.id, node, error.message)
        self._splice = plan.splice
        self._search = Search(self._means, replace(request, body=plan.body), asked, self.trace, resumes=True)

    def _others(self, failed: PeerId) -> list[Provider]:
        """Who could be asked now, `failed` last."""
        try:
            asked = self._means.route(self._request)
        except AicnError:
            return []
        return sorted(asked, key=lambda provider: provider.node == failed)

    def _final(self, error: AicnError) -> AicnError:
        """What the client is told at last."""
        if self._told and error.usage is None:
            error = _broken(error, "nobody else could go on with it", resume.read(self._told, self._request.kind))
        self._failure = error
        self.finish(error.code)
        return error

    def finish(self, error: str) -> None:
        """It is over, or was never begun: tell the observers, once. `error`: the code word of what the client is told."""
        if self._over:
            return
        self._over = True
        trace = self.trace
        trace.ended_s = trio.current_time() - trace.began
        trace.error = error
        if self.end is not None:
            trace.usage, trace.finish_reason = self.end.usage, self.end.finish_reason
        for observe in self._observers:
            observe(trace, self._request)


def _broken(error: AicnError, what: str, told: resume.Transcript) -> AnswerBroken:
    broken = AnswerBroken(f"the answer broke off ({error.message}) and {what}")
    counted = told.counted
    broken.usage = counted.prompt_tokens, counted.completion_tokens
    return broken
