"""Answers on their way to the client, plain and streamed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio
from quart import Response
from quart.wrappers.response import ResponseBody

from aicn.errors import AicnError, InternalError, ModelFailed
from aicn.gateway.exchange import GatewayRequest, current_request
from aicn.services.ports import Answer

log = logging.getLogger(__name__)

_EVENT_STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx in front of a node must not collect the stream
}


async def collect(answer: Answer, most: int) -> bytes:
    """The whole of a plain answer; ModelFailed when it is over `most` bytes."""
    pieces: list[bytes] = []
    size = 0
    try:
        while True:
            pieces.append((await answer.receive()).data)
            size += len(pieces[-1])
            if size > most:
                raise ModelFailed(f"the answer is larger than the {most} bytes of limits.answer_bytes")
    except trio.EndOfChannel:
        current_request().sent = size
        return b"".join(pieces)


async def stream(answer: Answer, error_event: Callable[[AicnError], bytes]) -> Response:
    """The HTTP answer of the running exchange to a client that wants a stream, once it has begun."""
    first = await _first_piece(answer)
    events = EventStream(current_request(), answer, first=first, error_event=error_event)
    return Response(events, headers=_EVENT_STREAM_HEADERS)


async def _first_piece(answer: Answer) -> bytes:
    """What a streamed answer begins with. An error up to here still has a status of its own; ModelFailed for no answer at all."""
    try:
        return (await answer.receive()).data
    except trio.EndOfChannel:
        raise ModelFailed("the model endpoint ended its stream without an event") from None


class EventStream(ResponseBody):
    """The rest of a streamed answer, each piece passed on as it comes, the moment the client takes it.

    The next piece is asked for when the last has been written: a client that does not read stops the model. An error becomes
    one last event in the facade's form; the end of the response never hides it, since no `[DONE]` follows.
    The exchange closes the answer.
    """

    def __init__(
        self, request: GatewayRequest, answer: Answer, *, first: bytes, error_event: Callable[[AicnError], bytes]
    ) -> None:
        self._request = request
        self._answer = answer
        self._first = first
        self._error_event = error_event
        self._broken = False
        request.first_at = trio.current_time()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if first := self._first:
            self._first = b""
            self._request.sent += len(first)
            return first
        if self._broken:
            raise StopAsyncIteration
        try:
            data = (await self._answer.receive()).data
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        except AicnError as error:
            return self._event(error)
        except Exception:
            log.exception("request %s failed", self._request.id)
            return self._event(InternalError("internal error; the node's log has the request id"))
        self._request.sent += len(data)
        return data

    def _event(self, error: AicnError) -> bytes:
        self._broken = True
        self._request.error = error.code
        return self._error_event(error)
