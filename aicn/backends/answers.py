"""Answers of models over HTTP, from an endpoint or through a peer. What comes is handed on as it is.

It is only looked at: is it an answer, is it complete, what did it cost.

Whose fault a refusal is decides whether another node is asked: 400, 413 and 422 say that the request cannot be served as it is
(InvalidRequest, TooLarge: the caller's fault); 429, and 503 with Retry-After, say later (Busy); everything else is ModelFailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import trio

from aicn.backends.response import HttpResponse
from aicn.config.schema import Limits
from aicn.domain.inference import Chunk, End, Head, InferenceRequest
from aicn.errors import AicnError, Busy, DeadlineExceeded, InvalidRequest, ModelFailed, Refusal, TooLarge
from aicn.services.ports import Answer
from aicn.wire.completion import error_message, one_line, parse_completion, parse_object
from aicn.wire.sse import EventCutter, parse_usage

_CHUNK_BYTES = 256 * 1024  # of a plain answer handed on at once: a yamux window
_ERROR_BYTES = 16 * 1024  # of an error body read to find its message
_ERROR_S = 5.0  # who answered an error status has this long to explain it
_SHORTEST_SECRET = 6  # bytes; what is shorter is no key, and stands in many a text
_TAIL_S = 0.25  # after [DONE], for the end of the HTTP body, which lets the connection be used again
_LONGEST_RETRY_S = 3600.0  # advice beyond this is no advice
NOT_LET_IN = "{} does not let this node in (status {}): its key or headers, as registered, are wrong"


async def begin(
    response: HttpResponse, request: InferenceRequest, limits: Limits, *, started: float, secrets: Sequence[bytes] = ()
) -> Answer:
    """The answer that `response` begins; its failure, and the response closed, when it is none.

    `started`: when the request was sent, trio.current_time(). `secrets` went with it: no error quotes them.
    ModelFailed, Busy, InvalidRequest, TooLarge, or `broken`.
    """
    try:
        if not 200 <= response.status < 300:
            await _refuse(response, secrets)
        if (coding := response.header(b"content-encoding").lower()) not in ("", "identity"):
            raise ModelFailed(f"{response.source} answers compressed ({one_line(coding)}), unasked")
        if request.stream:
            await _check_streams(response)
            return _StreamedAnswer(response, limits, request, started)
        return _PlainAnswer(response, limits, request, started)
    except BaseException:
        response.close()
        raise


class _HttpAnswer(Answer):
    """What both forms share: the end and failures are said again when asked again."""

    def __init__(self, response: HttpResponse, limits: Limits, request: InferenceRequest, started: float) -> None:
        self._response = response
        self._limits = limits
        self._request = request
        self._started = started  # trio.current_time() when the request was sent
        self._first_byte_ms: int | None = None
        self._failure: AicnError | None = None
        self._closed = False

    @property
    def head(self) -> Head:
        head = self._response.head
        return replace(head, headers=tuple(pair for pair in head.headers if pair[0] != b"content-length"))

    async def receive(self) -> Chunk:
        if self._closed:
            raise trio.ClosedResourceError
        if self._failure is not None:
            raise self._failure
        try:
            chunk = await self._next() if self.end is None else None
        except AicnError as error:
            self._failure = error
            self._response.close()
            raise
        if chunk is None:
            raise trio.EndOfChannel
        return chunk

    async def aclose(self) -> None:
        self._closed = True
        self._response.close()

    async def _next(self) -> Chunk | None:
        """The next chunk; None, with `end` set, when the answer is complete. An AicnError when it broke."""
        raise NotImplementedError

    async def _read(self) -> bytes:
        """The next bytes of the body; the first ones have what is left of the time to begin, if that is longer than a gap."""
        within = self._limits.gap_s
        if self._first_byte_ms is None:
            within = max(within, self._started + self._limits.first_byte_s - trio.current_time())
        left = self._request.deadline - trio.current_time()
        try:
            data = await self._response.receive_some(within=min(within, left))
        except AicnError:
            if trio.current_time() >= self._request.deadline:
                raise DeadlineExceeded("the request's deadline has passed before its answer was complete") from None
            raise
        if self._first_byte_ms is None:
            self._first_byte_ms = round((trio.current_time() - self._started) * 1000)
        return data


class _StreamedAnswer(_HttpAnswer):
    """Events as they come, all that one read brought in one chunk."""

    def __init__(self, response: HttpResponse, limits: Limits, request: InferenceRequest, started: float) -> None:
        super().__init__(response, limits, request, started)
        self._cutter = EventCutter()

    async def _next(self) -> Chunk | None:
        cutter = self._cutter
        while not cutter.done:
            data = await self._read()
            if not data:
                raise self._response.broken("ended its answer without [DONE]")
            if events := cutter.feed(data):
                return Chunk(events)
        await self._finish()
        self.end = End(cutter.finish_reason, cutter.usage, first_byte_ms=self._first_byte_ms or 0)
        return None

    async def _finish(self) -> None:
        """Read to the end of the body, to use the connection again; the answer is complete whether that works or not."""
        with suppress(AicnError):
            await self._response.read(0, within=_TAIL_S)
        self._response.close()


class _PlainAnswer(_HttpAnswer):
    """One JSON object, read to its end and checked before the first byte goes on."""

    def __init__(self, response: HttpResponse, limits: Limits, request: InferenceRequest, started: float) -> None:
        super().__init__(response, limits, request, started)
        self._body = bytearray()  # as far as it has come: a receive may be cancelled and called again
        self._checked: End | None = None  # the body is complete and good
        self._handed_on = 0  # bytes of it

    @property
    def head(self) -> Head:
        head = super().head
        return replace(head, headers=((b"content-length", b"%d" % len(self._body)), *head.headers))

    async def _next(self) -> Chunk | None:
        if self._checked is None:
            await self._read_all()
            try:
                answer = parse_completion(self._body, self._request.kind, source=self._response.source)
            except ModelFailed as error:
                error.refusal = _refusal(self._response, self._body)
                raise
            match answer:
                case {"choices": [{"finish_reason": str(reason)}, *_]}:
                    pass
                case _:
                    reason = ""
            self._checked = End(reason, parse_usage(answer.get("usage")), first_byte_ms=self._first_byte_ms or 0)
        start = self._handed_on
        if start == len(self._body):
            self.end = self._checked
            return None
        self._handed_on = min(start + _CHUNK_BYTES, len(self._body))
        return Chunk(bytes(self._body[start : self._handed_on]))

    async def _read_all(self) -> None:
        limit = self._limits.answer_bytes
        while data := await self._read():
            self._body += data
            if len(self._body) > limit:
                raise ModelFailed(f"{self._response.source} answered more than {limit} bytes")


async def _check_streams(response: HttpResponse) -> None:
    """ModelFailed unless the answer to a streamed request is an event stream."""
    kind = response.header(b"content-type").partition(";")[0].strip().lower()
    if kind == "text/event-stream" and response.status == 200:
        return
    body = await response.read(_ERROR_BYTES, within=_ERROR_S) if "json" in kind else b""
    answer = parse_object(body)
    if answer is not None and ("error" in answer or answer.get("code", 0) not in (0, None)):
        error = ModelFailed(f"{response.source} failed: {error_message(answer)}")
        error.refusal = _refusal(response, body)
        raise error
    what = one_line(kind) or "no content type"
    raise ModelFailed(f"{response.source} does not stream: it answered status {response.status}, {what}")


async def _refuse(response: HttpResponse, secrets: Sequence[bytes]) -> NoReturn:
    """Raise what a status other than 2xx means."""
    status = response.status
    if status in (401, 403) and secrets:  # its words may repeat a part of the key
        raise ModelFailed(NOT_LET_IN.format(response.source, status))
    try:
        body = await response.read(_ERROR_BYTES, within=_ERROR_S)
        refusal = _refusal(response, body)
    except AicnError:
        body, refusal = b"", None  # the status says enough
    if _quotes(body, secrets):
        body, refusal = b"", None
    error = _meaning(response, body)
    error.refusal = refusal
    raise error


def _quotes(body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether it is a page for developers, with the request that was sent."""
    return any(len(secret) >= _SHORTEST_SECRET and secret in body for secret in secrets)


def _meaning(response: HttpResponse, body: bytes) -> AicnError:
    status = response.status
    text = error_message(parse_object(body) or {}) or one_line(body.decode("utf-8", "replace"))
    said = f" (status {status}){': ' if text else ''}{text}"
    retry_after = _retry_after(response.header(b"retry-after"))
    if status in (400, 422):
        return InvalidRequest(f"{response.source} refused the request{said}")
    if status == 413:
        return TooLarge(f"{response.source} refused the request{said}")
    if status == 429 or (status == 503 and retry_after is not None):
        return Busy(f"{response.source} is busy{said}", retry_after=retry_after)
    return ModelFailed(f"{response.source} failed{said}")


def _refusal(response: HttpResponse, body: bytes | bytearray) -> Refusal | None:
    """What is passed on of an error; None of a long one, which may not be all there."""
    if len(body) > _ERROR_BYTES:
        return None
    head = response.head
    return Refusal(head.status, head.reason, head.headers, bytes(body))


def _retry_after(value: str) -> float | None:
    """Seconds to wait as the header says; None for none, for a date (it needs clocks that agree), and for absurd ones."""
    return float(value) if value.isascii() and value.isdigit() and float(value) <= _LONGEST_RETRY_S else None
