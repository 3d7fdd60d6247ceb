"""The worker side: requests, from peers or from this node's own gateway, are admitted and sent to a model endpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import trio

from aicn.config.schema import Limits
from aicn.domain.inference import Accepted, Chunk, End, Head, InferenceRequest
from aicn.domain.registration import Endpoint
from aicn.domain.served import CANCELLED
from aicn.errors import (
    AicnError,
    Busy,
    DeadlineExceeded,
    ModelFailed,
    ProtocolViolation,
    TooLarge,
)
from aicn.services import wallet
from aicn.services.admission import Admission, Ticket
from aicn.services.balancing import Balancer
from aicn.services.exchanges import Exchanges, deliver
from aicn.services.ports import Answer, Endpoints, PeerStream
from aicn.services.registration import Registration
from aicn.services.serving import Serving
from aicn.wire import inference as wire
from aicn.wire.framing import FrameReader

_PROBES_AT_ONCE = 64
_PROBES_S = 45.0  # for all probes of one call: clients wait a minute
_PROBES_TOLD = 10  # failures named in one message
_LOOK_S = 1.0  # between two looks of one that waits: whether there is news, and whether places are held in vain
_UNREAD_S = 10.0  # an answer that its client has not taken for so long gives its place to others that wait


class LocalAnswer(Answer):
    """An admitted request. The first `receive` waits for its place and opens the endpoint; with `news`, receives before it return
    comments on how the queue moves: the first at once, then at most one in _LOOK_S.

    What it has returned counts as unread until the next `receive`: places are for those who take their answers.
    """

    def __init__(
        self,
        request: InferenceRequest,
        candidates: Sequence[Endpoint],
        *,
        balancer: Balancer,
        ticket: Ticket,
        accepted: Accepted,
        queue_s: float,
        news: bool,
        ended: Callable[..., None],
    ) -> None:
        """`ended`: told once how it ended, as `Serving.ended` after its first two arguments."""
        self.accepted = accepted
        self._request = request
        self._candidates = candidates
        self._balancer = balancer
        self._ticket = ticket
        self._queue_s = queue_s
        self._news = news
        self._ended: Callable[..., None] | None = ended
        self._told: int | None = None  # the position in the last comment
        self._reclaimed = False
        self._admitted = trio.current_time()
        self._placed = self._admitted
        self._upstream: Answer | None = None
        self._leave_endpoint: Callable[[], None] | None = None

    @property
    def head(self) -> Head | None:
        return None if self._upstream is None else self._upstream.head

    async def receive(self) -> Chunk:
        self._ticket.unread_since = None
        try:
            chunk = await self._receive()
        except AicnError as error:
            self._tell(code=error.code)
            raise
        self._ticket.unread_since = trio.current_time()
        return chunk

    async def aclose(self) -> None:
        self._tell(code=CANCELLED)  # does nothing when it has ended before
        self._leave()
        if self._upstream is not None:
            await self._upstream.aclose()

    async def _receive(self) -> Chunk:
        if self._reclaimed:
            raise DeadlineExceeded(f"the requester took nothing for {_UNREAD_S:g} s while others waited for the place")
        if self._upstream is None:
            if self.end is not None:
                raise trio.EndOfChannel
            if self.accepted.queue_position and (news := await self._turn()) is not None:
                return news
            self._upstream, self._leave_endpoint = await self._start()
        try:
            return await self._upstream.receive()
        except trio.EndOfChannel:
            self.end = self._finish(self._upstream.end or End())
            raise

    async def _turn(self) -> Chunk | None:
        """None once it may run; before that, what there is to tell."""
        gives_up = min(self._request.deadline, self._admitted + self._queue_s)
        if self._told is None and (news := self._news_of_queue()) is not None:
            return news
        while True:
            with trio.CancelScope(deadline=min(gives_up, trio.current_time() + _LOOK_S)):
                await self._ticket.wait()
                self._placed = trio.current_time()
                return None
            if trio.current_time() >= gives_up:
                raise Busy(f"no place was free within {self._queue_s:g} s", retry_after=self._queue_s)
            await self._ticket.reclaim_unread(_UNREAD_S)
            if (news := self._news_of_queue()) is not None:
                return news

    def _news_of_queue(self) -> Chunk | None:
        """A comment, when the position is another than it was in the last one."""
        if not self._news:
            return None
        position, wait_s = self._ticket.outlook()
        if not position or position == self._told:
            return None
        self._told = position
        return Chunk(b": queued position=%d eta=%.1fs\n\n" % (position, wait_s), comment=True)

    async def _start(self) -> tuple[Answer, Callable[[], None]]:
        self._ticket.reclaim = self._reclaim
        with trio.CancelScope(deadline=self._request.deadline):
            return await self._balancer.open(self._candidates, self._request)
        raise DeadlineExceeded("the request's deadline has passed before its answer began")

    async def _reclaim(self) -> None:
        self._reclaimed = True
        self._tell(code=DeadlineExceeded.code)
        await self.aclose()

    def _leave(self) -> None:
        self._ticket.leave()
        self._ticket.reclaim = None  # it refers to this very object
        if self._leave_endpoint is not None:
            self._leave_endpoint()
            self._leave_endpoint = None

    def _finish(self, end: End) -> End:
        self._leave()
        end = End(
            finish_reason=end.finish_reason,
            usage=end.usage,
            queued_ms=_ms(self._placed - self._admitted),
            first_byte_ms=end.first_byte_ms,
            total_ms=_ms(trio.current_time() - self._admitted),
        )
        self._tell(end=end)
        return end

    def _tell(self, *, end: End | None = None, code: str = "") -> None:
        if self._ended is not None:
            self._ended(seconds=trio.current_time() - self._admitted, end=end, code=code)
            self._ended = None


class Worker:
    """Admits requests and answers them."""

    def __init__(
        self,
        registration: Registration,
        endpoints: Endpoints,
        limits: Limits,
        *,
        request_bytes: int,
        wallet_required: bool = False,
    ) -> None:
        self._registration = registration
        self._endpoints = endpoints
        self._balancer = Balancer(endpoints)
        self._limits = limits
        self._frame_bytes = request_bytes + wire.REQUEST_OVERHEAD_BYTES
        self._wallet_required = wallet_required
        self._admissions: dict[tuple[str, str], Admission] = {}
        self.exchanges = Exchanges(request_bytes=self._frame_bytes)  # with peers, in every protocol
        self.serving = Serving()
        self._stopping = False

    def open(self, request: InferenceRequest, *, principal: str = "", news: bool = False) -> Answer:
        """Admit the request. UnknownModel, Busy, Forbidden when a wallet's proof is required and it has no good one.

        `principal`: for whom it is, a peer or a key of this node; the places are shared among them. `news`: a streamed answer may
        begin with comments on its place in the queue. The endpoint's own errors come with the first chunk.
        """
        try:
            return self._admit(request, principal, news=news)
        except AicnError as error:
            self.serving.ended(request, principal, code=error.code)
            raise

    def _admit(self, request: InferenceRequest, principal: str, *, news: bool) -> LocalAnswer:
        if self._stopping:
            raise Busy("the node is stopping")
        candidates = self._registration.find(request.kind, request.project, request.model)
        if self._wallet_required:
            wallet.check(request.body)
        admission = self._admission(request.project, request.model)
        patience_s = min(self._limits.queue_s, request.deadline - trio.current_time())
        ticket, position = admission.enter(principal, patience_s=patience_s)
        accepted = Accepted(queue_position=position, in_flight=admission.running)
        return LocalAnswer(
            request,
            candidates,
            balancer=self._balancer,
            ticket=ticket,
            accepted=accepted,
            queue_s=self._limits.queue_s,
            news=news and request.stream,
            ended=partial(self.serving.ended, request, principal),
        )

    async def probe(self, endpoints: Sequence[Endpoint]) -> None:
        """Ask each endpoint something harmless; ModelFailed naming all that cannot work by their places, `models[0].api`."""
        failed = {place: f"models[{place}].api: was not asked in time" for place in range(len(endpoints))}
        limit = trio.CapacityLimiter(_PROBES_AT_ONCE)

        async def probe_one(place: int, endpoint: Endpoint) -> None:
            async with limit:
                try:
                    await self._endpoints.probe(endpoint)
                    del failed[place]
                except ModelFailed as error:
                    failed[place] = f"models[{place}].api: {error.message}"

        with trio.move_on_after(_PROBES_S):
            async with trio.open_nursery() as nursery:
                for place, endpoint in enumerate(endpoints):
                    nursery.start_soon(probe_one, place, endpoint)
        if failed:
            told = [failed[place] for place in sorted(failed)]
            more = f"; and {len(told) - _PROBES_TOLD} more" if len(told) > _PROBES_TOLD else ""
            raise ModelFailed("; ".join(told[:_PROBES_TOLD]) + more)

    def load(self, project: str, model: str) -> tuple[int, int]:
        """How many requests of the model run at once, and how many run or wait now."""
        admission = self._admission(project, model)
        return admission.concurrency, admission.running + admission.waiting

    async def serve(self, stream: PeerStream) -> None:
        """One exchange of `/aicn/inference/1.0.0`. The requester's reset ends it at once, wherever it is."""
        await self.exchanges.serve(stream, partial(self._exchange, stream), partial(self._tell, stream))

    async def drain(self) -> None:
        """Refuse new requests and return when those that peers have running are done."""
        self._stopping = True
        await self.exchanges.drain()

    async def _exchange(self, stream: PeerStream) -> None:
        request = await self._receive(stream)
        answer = self.open(request, principal=stream.peer, news=True)
        try:
            await deliver(stream, wire.encode_accepted(answer.accepted))
            async for chunk in answer:
                await deliver(stream, wire.encode_chunk(chunk))
            assert answer.end is not None
            await deliver(stream, wire.encode_end(answer.end))
            await stream.send_eof()
        finally:
            await answer.aclose()

    async def _receive(self, stream: PeerStream) -> InferenceRequest:
        """The one request of the stream, up to the requester's half close. Before that nothing goes upstream."""
        reader = FrameReader(self._frame_bytes)
        frame = None
        with self.exchanges.arriving(stream.peer) as hold:
            while data := await stream.receive_some():
                if frame is not None:
                    raise ProtocolViolation("something follows the request")
                hold(len(data))
                reader.feed(data)
                frame = reader.next_frame()
                if frame is not None and reader.pending:
                    raise ProtocolViolation("something follows the request")
        if frame is None:
            raise ProtocolViolation("the stream ended before a request was complete")
        now = trio.current_time()
        request = wire.decode_request(frame, now=now)
        if len(request.body) > self._frame_bytes - wire.REQUEST_OVERHEAD_BYTES:
            raise TooLarge("body: over this node's limit")
        return replace(request, deadline=min(request.deadline, now + self._limits.request_s))

    async def _tell(self, stream: PeerStream, error: AicnError) -> None:
        await stream.send_all(wire.encode_failure(error))
        await stream.send_eof()

    def _admission(self, project: str, model: str) -> Admission:
        name = (project, model)
        if name not in self._admissions:
            concurrency = self._limits.model_concurrency.get(model, self._limits.concurrency)
            self._admissions[name] = Admission(concurrency=concurrency, queue=self._limits.queue)
        return self._admissions[name]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
