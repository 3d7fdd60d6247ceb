"""`/chat-proxy/0.0.1`: chats between nodes of the existing network, an HTTP exchange per stream, both sides.

Its requesters pass an answer on to their clients with status, reason and headers, so what an endpoint says reaches them as it is, errors too.
A reset without a byte says that there is no such model, or nothing behind it; after the head it says that the answer has broken off.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from aicn import errors
from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Chunk, Head, InferenceRequest, Kind
from aicn.errors import (
    AicnError,
    Busy,
    DeadlineExceeded,
    EndpointDown,
    ProtocolViolation,
    Refusal,
    UnknownModel,
    Unsupported,
)
from aicn.services.admission import Admission, Ticket
from aicn.services.exchanges import deliver
from aicn.services.ports import Answer, PeerModels, Peers, PeerStream
from aicn.services.worker import Worker
from aicn.wire.json_body import take
from aicn.wire.legacy import chat_proxy
from aicn.wire.legacy.failures import code_of

_STREAMS = 60  # to one node at once: it resets more than 64 (go-libp2p's limit per peer and protocol)
_LINGER_S = 30.0  # go nodes keep a stream that was given up before its answer began until their endpoint says something
_LOOK_S = 1.0  # how often those who wait look whether such a place is free again
_WAITING = 1024  # requests that wait for one of them, per node: as many as a gateway's clients may have open
_UNSAID = (UnknownModel, EndpointDown, ProtocolViolation)  # told by a reset, as the original does
_STATUS: dict[type[AicnError], int] = {
    errors.InvalidRequest: 400,
    errors.MalformedBody: 400,
    errors.Forbidden: 403,
    errors.TooLarge: 413,
    errors.ModelFailed: 502,
    errors.Busy: 503,
    errors.DeadlineExceeded: 504,
}


class ProxyWorker:
    """The side that has the models."""

    def __init__(self, worker: Worker, limits: Limits, *, body_bytes: int) -> None:
        self._worker = worker
        self._limits = limits
        self._body_bytes = body_bytes

    async def serve(self, stream: PeerStream) -> None:
        """One exchange. The requester's reset ends it at once, wherever it is."""
        http = chat_proxy.Worker(body_bytes=self._body_bytes)
        await self._worker.exchanges.serve(stream, partial(self._exchange, stream, http), partial(_tell, stream, http))

    async def _exchange(self, stream: PeerStream, http: chat_proxy.Worker) -> None:
        request = await self._receive(stream, http)
        answer = self._worker.open(request, principal=stream.peer)
        try:
            async for chunk in answer:
                await deliver(stream, _begin(http, answer, request) + http.data(chunk.data))
            await deliver(stream, _begin(http, answer, request) + http.end())
            await stream.send_eof()
        finally:
            await answer.aclose()

    async def _receive(self, stream: PeerStream, http: chat_proxy.Worker) -> InferenceRequest:
        """The one request of the stream; what follows it is not looked at, as the original does."""
        with self._worker.exchanges.arriving(stream.peer) as hold:
            complete = False
            while not complete:
                data = await stream.receive_some()
                hold(len(data))
                complete = http.feed(data)
        body = http.body
        members, _ = take(body)
        return InferenceRequest(
            id=uuid.uuid4().hex,
            kind=Kind.CHAT,
            project=http.project,
            model=http.model,
            body=body,
            stream=members.get("stream") is True,
            deadline=trio.current_time() + self._limits.request_s,
        )


def _begin(http: chat_proxy.Worker, answer: Answer, request: InferenceRequest) -> bytes:
    """The head of the answer, before its first piece: the endpoint's, or one that fits."""
    if http.begun:
        return b""
    kind = b"text/event-stream" if request.stream else b"application/json"
    return http.head(answer.head or Head(200, "OK", ((b"content-type", kind),)))


async def _tell(stream: PeerStream, http: chat_proxy.Worker, error: AicnError) -> None:
    """Say what failed: in HTTP as long as there is a choice."""
    if http.begun or isinstance(error, _UNSAID):
        stream.reset()
        return
    said = error.refusal or _refusal(error)
    headers = tuple(pair for pair in said.headers if pair[0] != b"content-length")
    head = Head(said.status, said.reason, ((b"content-length", b"%d" % len(said.body)), *headers))
    await stream.send_all(http.head(head) + http.data(said.body) + http.end())
    await stream.send_eof()


def _refusal(error: AicnError) -> Refusal:
    """What this node itself answers: spec 1's code and message."""
    code, message = code_of(error)
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, Busy):  # without advice requesters would take it for a failure
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after or 0))))
    body = json.dumps({"code": code, "message": message}, ensure_ascii=False).encode()
    return Refusal(_STATUS.get(type(error), 500), "", tuple(headers), body)


class ProxyRequester:
    """The side that asks; at most _STREAMS exchanges with a node run at once, others wait their turn."""

    def __init__(self, peers: Peers, models: PeerModels) -> None:
        self._peers = peers
        self._models = models
        self._admissions: dict[PeerId, Admission] = {}  # of nodes with which there is an exchange
        self._abandoned: deque[tuple[float, PeerId, Ticket]] = deque()  # places that are taken until then, in order

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `node`, which has begun. Nothing of the request but its project, model and body goes there.

        ModelFailed says also that the node knows no such model. Busy: too many wait for that node already. Unsupported: it does
        not speak this, or the request is no chat. Else as `Peers.open_stream` and `PeerModels.open`.
        """
        if request.kind is not Kind.CHAT or request.parts:
            raise Unsupported(f"peer {node} takes only chats in this way")
        self._free_abandoned()
        ticket, _ = self._admissions.setdefault(node, Admission(concurrency=_STREAMS, queue=_WAITING)).enter()
        asked = False
        try:
            with trio.CancelScope(deadline=request.deadline):
                await self._turn(ticket)
                stream = await self._peers.open_stream(node, chat_proxy.PROTOCOL, limited=False)
                asked = True
                answer = await self._models.open(stream, request)
                return _PlacedAnswer(answer, node, partial(self._leave, node, ticket))
            raise DeadlineExceeded(f"the request's deadline has passed before peer {node} began its answer")
        except BaseException as error:
            if asked and (isinstance(error, DeadlineExceeded) or not isinstance(error, AicnError)):
                self._abandoned.append((trio.current_time() + _LINGER_S, node, ticket))
            else:
                self._leave(node, ticket)
            raise

    async def _turn(self, ticket: Ticket) -> None:
        while True:
            with trio.move_on_after(_LOOK_S):
                await ticket.wait()
                return
            self._free_abandoned()

    def _free_abandoned(self) -> None:
        while self._abandoned and self._abandoned[0][0] <= trio.current_time():
            _, node, ticket = self._abandoned.popleft()
            self._leave(node, ticket)

    def _leave(self, node: PeerId, ticket: Ticket) -> None:
        ticket.leave()
        admission = self._admissions.get(node)
        if admission is not None and not admission.running:
            del self._admissions[node]


class _PlacedAnswer(Answer):
    """An answer that leaves its place when it ends."""

    def __init__(self, answer: Answer, node: PeerId, leave: Callable[[], None]) -> None:
        self.node = node
        self._answer = answer
        self._leave = leave

    @property
    def head(self) -> Head | None:
        return self._answer.head

    async def receive(self) -> Chunk:
        try:
            return await self._answer.receive()
        except trio.EndOfChannel:
            self.end = self._answer.end
            self._leave()
            raise
        except AicnError:
            self._leave()
            raise

    async def aclose(self) -> None:
        await self._answer.aclose()
        self._leave()
