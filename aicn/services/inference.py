"""The requester side: one request, answered by this node or by another."""

from __future__ import annotations

from collections import deque

import trio

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, Chunk, End, InferenceRequest
from aicn.errors import AicnError, AnswerBroken, DeadlineExceeded, ProtocolViolation, TooLarge
from aicn.services.legacy.asking import Asking
from aicn.services.ports import Answer, Peers, PeerStream
from aicn.services.worker import Worker
from aicn.wire import inference as wire
from aicn.wire.framing import FrameReader

_SEND_S = 30.0  # a request must have left whole by then: 32 MiB over a 10 Mbit/s line
_ACCEPT_S = 15.0  # a worker says at once whether it takes a request: more than a round trip is silence
_SILENCE_MARGIN_S = 30.0  # added to the worker's own limits, so that its clear error comes before our guess


class RemoteAnswer(Answer):
    """The answer that comes over one stream.

    A `receive` takes every chunk that has arrived and hands them on as one: at low load each event goes out at once, at
    saturation the pieces grow by themselves.
    """

    interruptible = True

    def __init__(self, stream: PeerStream, *, streamed: bool, deadline: float, silence_s: float) -> None:
        self.node = stream.peer
        self._stream = stream
        self._streamed = streamed
        self._deadline = deadline
        self._silence_s = silence_s
        self._news_since: float | None = (
            None  # trio.current_time(); news of the queue break no silence, or they could go on for ever
        )
        self._reader = FrameReader(wire.ANSWER_FRAME_BYTES)
        self._ready: deque[Accepted | Chunk | End | AicnError] = deque()

    async def accept(self, within_s: float) -> None:
        """The worker's verdict: returns when it has admitted the request, raises its refusal."""
        await self._fill(within_s)
        first = self._ready.popleft()
        if isinstance(first, AicnError):
            raise first
        if not isinstance(first, Accepted):
            raise ProtocolViolation(f"peer {self.node} answered without accepting")
        self.accepted = first

    async def receive(self) -> Chunk:
        if self.end is not None:
            raise trio.EndOfChannel
        if not self._ready:
            await self._fill(self._silence_s, self._news_since)
        pieces: list[bytes] = []
        while self._ready and isinstance(first := self._ready[0], Chunk):
            if first.comment:
                if pieces:
                    break
                self._ready.popleft()
                return self._news(first)
            pieces.append(first.data)
            self._ready.popleft()
        self._news_since = None
        if pieces:
            return Chunk(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        match self._ready.popleft():
            case End() as end:
                self.end = end
                raise trio.EndOfChannel
            case AicnError() as error:
                raise error
            case _:
                raise ProtocolViolation(f"peer {self.node} accepted twice")

    async def aclose(self) -> None:
        self._stream.reset()  # does nothing when both sides have ended

    def _news(self, comment: Chunk) -> Chunk:
        if not self._streamed:
            raise ProtocolViolation(f"peer {self.node} puts a comment into an answer that is no stream")
        if self._news_since is None:
            self._news_since = trio.current_time()
        return comment

    async def _fill(self, silence_s: float, since: float | None = None) -> None:
        """Wait for at least one frame; decode all that are there. The silence began at `since`, or now."""
        while not self._ready:
            silent_at = (trio.current_time() if since is None else since) + silence_s
            with trio.CancelScope(deadline=min(self._deadline, silent_at)) as self.waiting:
                data = await self._stream.receive_some()
            if self.waiting.cancelled_caught:
                what = "the deadline" if self._deadline < silent_at else f"{silence_s:g} s"
                raise DeadlineExceeded(f"peer {self.node} has not answered within {what}")
            if not data:
                raise AnswerBroken(f"peer {self.node} ended its answer without saying that it is complete")
            self._reader.feed(data)
            try:
                while (frame := self._reader.next_frame()) is not None:
                    self._ready.append(wire.decode_answer(frame))
            except TooLarge as error:  # not the caller's fault, as that class would have it
                raise ProtocolViolation(f"peer {self.node}: {error.message}") from None


class Inference:
    """Sends a request to the node that is asked to answer it."""

    def __init__(self, peers: Peers, worker: Worker, limits: Limits, *, legacy: Asking | None = None) -> None:
        """`legacy`: asks nodes of the existing network; None: they are strangers."""
        self._peers = peers
        self._worker = worker
        self._legacy = legacy
        self._silence_s = max(limits.queue_s + limits.first_byte_s, limits.gap_s) + _SILENCE_MARGIN_S

    async def open(self, node: PeerId, request: InferenceRequest) -> Answer:
        """The answer of `node`, admitted there. Errors before that are raised here, later ones by its `receive`."""
        if node == self._peers.id:
            answer = self._worker.open(request, principal=request.key, news=True)
            answer.node = node
            return answer
        if self._legacy is not None and await self._legacy.concerns(node):
            return await self._legacy.open(node, request)
        stream = await self._peers.open_stream(node, wire.PROTOCOL)
        answer = RemoteAnswer(stream, streamed=request.stream, deadline=request.deadline, silence_s=self._silence_s)
        try:
            with trio.CancelScope(deadline=min(request.deadline, trio.current_time() + _SEND_S)) as scope:
                await stream.send_all(wire.encode_request(request, now=trio.current_time()))
                await stream.send_eof()
            if scope.cancelled_caught:
                raise DeadlineExceeded(f"peer {node} does not take the request")
            await answer.accept(_ACCEPT_S)
        except BaseException:
            stream.reset()
            raise
        return answer
