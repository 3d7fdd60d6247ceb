"""Models of nodes of the existing network, over `/chat-proxy/0.0.1`: HTTP on a stream, read as an endpoint's answer is."""

from __future__ import annotations

import trio

from aicn.backends.answers import begin
from aicn.backends.response import HttpResponse
from aicn.config.schema import Limits
from aicn.domain.inference import Head, InferenceRequest
from aicn.errors import AnswerBroken, DeadlineExceeded, ModelFailed, ProtocolViolation
from aicn.services.ports import Answer, PeerStream
from aicn.wire.legacy.chat_proxy import Requester

_SEND_S = 30.0  # a request must have left whole by then: 32 MiB over a 10 Mbit/s line


class PeerResponse(HttpResponse):
    """The answer that comes over one stream, once `begin` has returned."""

    def __init__(self, stream: PeerStream) -> None:
        self.status = 0  # until the head has come
        self._stream = stream
        self._http = Requester()
        self._head = Head(0, "", ())
        self._unread: list[bytes] = []
        self._complete = False  # the last of it is in `_unread`, or was read

    @property
    def source(self) -> str:
        return f"peer {self._stream.peer}"

    @property
    def head(self) -> Head:
        return self._head

    def header(self, name: bytes) -> str:
        return self._head.get(name)

    async def begin(self, request: InferenceRequest, *, within: float) -> None:
        """Send the request and wait for the head. ModelFailed, ProtocolViolation, DeadlineExceeded."""
        try:
            await self._ask(request)
            with trio.CancelScope(deadline=trio.current_time() + within) as scope:
                while not self.status:
                    await self._fill()
        except AnswerBroken as error:
            how = error.message.removeprefix(f"{self._stream.peer}: ")
            raise ModelFailed(
                f"{self.source} does not answer for this model: it has no such one, or its endpoint is down ({how})"
            ) from None
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"{self.source} did not begin its answer within {within:g} s")

    async def _ask(self, request: InferenceRequest) -> None:
        asked = self._http.request(request.project, request.model, request.body, stream=request.stream)
        with trio.CancelScope(deadline=trio.current_time() + _SEND_S) as scope:
            await self._stream.send_all(asked)
            await self._stream.send_eof()
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"{self.source} does not take the request")

    async def receive_some(self, *, within: float) -> bytes:
        with trio.CancelScope(deadline=trio.current_time() + within) as scope:
            while not self._unread and not self._complete:
                await self._fill()
        if scope.cancelled_caught:
            self.close()
            raise DeadlineExceeded(f"{self.source} sent nothing for {within:g} s in the middle of its answer")
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        if not data:
            self.close()
        return data

    async def _fill(self) -> None:
        """Read once, whatever is there. May be cancelled without loss."""
        data = await self._stream.receive_some()
        try:
            for part in self._http.feed(data):
                if isinstance(part, Head):
                    self._head, self.status = part, part.status
                elif part is None:
                    self._complete = True
                else:
                    self._unread.append(part)
        except AnswerBroken:
            raise self.broken("ended its answer before it was complete") from None
        except ProtocolViolation as error:
            raise ProtocolViolation(f"{self.source}: {error.message}") from None

    def broken(self, what: str) -> AnswerBroken:
        return AnswerBroken(f"{self.source} {what}")

    def close(self) -> None:
        self._stream.reset()  # does nothing when both sides have ended


class PeerHttp:
    """Fits `services.ports.PeerModels`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def open(self, stream: PeerStream, request: InferenceRequest) -> Answer:
        """As endpoints do. A reset before the head is ModelFailed: the peer knows no such model, or its endpoint is down.

        Also ProtocolViolation, DeadlineExceeded.
        """
        started = trio.current_time()
        response = PeerResponse(stream)
        try:
            await response.begin(request, within=self._limits.first_byte_s)
        except BaseException:
            response.close()
            raise
        return await begin(response, request, self._limits, started=started)
