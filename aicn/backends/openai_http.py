"""Model endpoints that speak OpenAI's HTTP API, or the model endpoint standard of the existing network (spec 2), which is part of it.

What the caller sent goes to the endpoint as it is, with none of the caller's headers; what the endpoint answers comes back as it is.
An answer is only looked at: is it one, is it complete, what did it cost.

Whose fault a refusal is decides whether another node is asked: 400, 413 and 422 say that the request cannot be served as it is
(InvalidRequest, TooLarge: the caller's fault); 429, and 503 with Retry-After, say later (Busy); everything else is ModelFailed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import trio

from aicn.backends.pool import Pool, Response, open_pool
from aicn.config.schema import Limits
from aicn.domain.inference import Chunk, End, InferenceRequest
from aicn.domain.registration import Endpoint
from aicn.errors import AicnError, Busy, DeadlineExceeded, InvalidRequest, ModelFailed, TooLarge
from aicn.services.ports import Answer
from aicn.wire.completion import error_message, one_line, parse_completion, parse_object
from aicn.wire.form import encode_form
from aicn.wire.json_body import take
from aicn.wire.sse import EventCutter, parse_usage

_CHUNK_BYTES = 256 * 1024  # of a plain answer handed on at once: a yamux window
_ERROR_BYTES = 16 * 1024  # of an error body read to find its message
_ERROR_S = 5.0  # an endpoint that answered an error status has this long to explain it
_TAIL_S = 0.25  # after [DONE], for the end of the HTTP body, which lets the connection be used again
_PROBE_S = 10.0  # for an endpoint to refuse an empty request
_NOT_LET_IN = (
    "the model endpoint {} does not let this node in (status {}): its key or headers, as registered, are wrong"
)
_LONGEST_RETRY_S = 3600.0  # advice beyond this is no advice


@asynccontextmanager
async def open_endpoints(limits: Limits) -> AsyncIterator[OpenAIEndpoints]:
    """The caller of endpoints, for the time of the block. Answers must be closed before it ends."""
    async with open_pool(connect_s=limits.connect_s) as pool:
        yield OpenAIEndpoints(pool, limits)


class OpenAIEndpoints:
    """Fits `services.ports.Endpoints`."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits

    async def open(self, endpoint: Endpoint, request: InferenceRequest) -> Answer:
        """Post the request. ModelFailed, Busy, InvalidRequest or TooLarge when the endpoint does not begin a good answer."""
        limits = self._limits
        started = trio.current_time()
        accept = b"text/event-stream" if request.stream else b"application/json"
        content_type, body = _form(request) if request.parts else (b"application/json", request.body)
        response = await self._pool.post(
            endpoint.url,
            headers=[(b"Content-Type", content_type), (b"Accept", accept), *_own_headers(endpoint)],
            body=body,
            within=limits.first_byte_s,
        )
        try:
            if not 200 <= response.status < 300:
                await _refuse(response, endpoint)
            if (coding := response.header(b"content-encoding").lower()) not in ("", "identity"):
                raise ModelFailed(
                    f"the model endpoint {response.origin} answers compressed ({one_line(coding)}), unasked"
                )
            if request.stream:
                await _check_streams(response)
                return _StreamedAnswer(response, limits, request, started)
            return _PlainAnswer(response, limits, request, started)
        except BaseException:
            response.close()
            raise

    async def probe(self, endpoint: Endpoint) -> None:
        """Post an empty object: no model runs for it, and servers tell by their status whether they would have looked at it.

        llama.cpp, vLLM, Ollama and the FastAPI and Flask programs of spec 2 answer 400, 422 or 500. A wrong path is 404 or 405.
        """
        response = await self._pool.post(
            endpoint.url,
            headers=[(b"Content-Type", b"application/json"), (b"Accept", b"application/json"), *_own_headers(endpoint)],
            body=b"{}",
            within=min(_PROBE_S, self._limits.first_byte_s),
        )
        status = response.status
        response.close()
        if status in (404, 405):
            raise ModelFailed(f"the model endpoint {response.origin} takes no requests at this path (status {status})")
        if status in (401, 403):
            raise ModelFailed(_NOT_LET_IN.format(response.origin, status))
        if status in (501, 502, 503, 504):  # 501: llama.cpp without --embeddings; 503: it loads its model
            raise ModelFailed(f"the model endpoint {response.origin} does not do this now (status {status})")


def _form(request: InferenceRequest) -> tuple[bytes, bytes]:
    """Content type and body for an endpoint that is given files: the client's fields beside them."""
    members, _ = take(request.body)
    content_type, body = encode_form(members, request.parts)
    return content_type.encode(), body


class _EndpointAnswer(Answer):
    """What both forms share: the end and failures are said again when asked again."""

    def __init__(self, response: Response, limits: Limits, request: InferenceRequest, started: float) -> None:
        self._response = response
        self._limits = limits
        self._request = request
        self._started = started  # trio.current_time() when the request was sent
        self._first_byte_ms: int | None = None
        self._failure: AicnError | None = None
        self._closed = False

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
        except ModelFailed:
            if trio.current_time() >= self._request.deadline:
                raise DeadlineExceeded("the request's deadline has passed before its answer was complete") from None
            raise
        if self._first_byte_ms is None:
            self._first_byte_ms = round((trio.current_time() - self._started) * 1000)
        return data


class _StreamedAnswer(_EndpointAnswer):
    """Events as they come, all that one read brought in one chunk."""

    def __init__(self, response: Response, limits: Limits, request: InferenceRequest, started: float) -> None:
        super().__init__(response, limits, request, started)
        self._cutter = EventCutter()

    async def _next(self) -> Chunk | None:
        cutter = self._cutter
        while not cutter.done:
            data = await self._read()
            if not data:
                raise ModelFailed(f"the model endpoint {self._response.origin} ended its answer without [DONE]")
            if events := cutter.feed(data):
                return Chunk(events)
        await self._finish()
        self.end = End(cutter.finish_reason, cutter.usage, first_byte_ms=self._first_byte_ms or 0)
        return None

    async def _finish(self) -> None:
        """Read to the end of the body, to use the connection again; the answer is complete whether that works or not."""
        with suppress(ModelFailed):
            await self._response.read(0, within=_TAIL_S)
        self._response.close()


class _PlainAnswer(_EndpointAnswer):
    """One JSON object, read to its end and checked before the first byte goes on."""

    def __init__(self, response: Response, limits: Limits, request: InferenceRequest, started: float) -> None:
        super().__init__(response, limits, request, started)
        self._body = bytearray()  # as far as it has come: a receive may be cancelled and called again
        self._checked: End | None = None  # the body is complete and good
        self._handed_on = 0  # bytes of it

    async def _next(self) -> Chunk | None:
        if self._checked is None:
            await self._read_all()
            answer = parse_completion(
                self._body, self._request.kind, source=f"the model endpoint {self._response.origin}"
            )
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
                raise ModelFailed(f"the model endpoint {self._response.origin} answered more than {limit} bytes")


async def _check_streams(response: Response) -> None:
    """ModelFailed unless the answer to a streamed request is an event stream."""
    kind = response.header(b"content-type").partition(";")[0].strip().lower()
    if kind == "text/event-stream" and response.status == 200:
        return
    answer = parse_object(await response.read(_ERROR_BYTES, within=_ERROR_S)) if "json" in kind else None
    if answer is not None and ("error" in answer or answer.get("code", 0) not in (0, None)):
        raise ModelFailed(f"the model endpoint {response.origin} failed: {error_message(answer)}")
    what = one_line(kind) or "no content type"
    raise ModelFailed(
        f"the model endpoint {response.origin} does not stream: it answered status {response.status}, {what}"
    )


def _own_headers(endpoint: Endpoint) -> list[tuple[bytes, bytes]]:
    """What the operator registered for this endpoint."""
    headers = [(name.encode(), value.encode()) for name, value in endpoint.headers]
    if endpoint.api_key:
        headers.append((b"Authorization", b"Bearer " + endpoint.api_key.encode()))
    return headers


async def _refuse(response: Response, endpoint: Endpoint) -> NoReturn:
    """Raise what a status other than 2xx means."""
    status = response.status
    if status in (401, 403) and (endpoint.api_key or endpoint.headers):  # its words may repeat the key
        raise ModelFailed(_NOT_LET_IN.format(response.origin, status))
    try:
        body = await response.read(_ERROR_BYTES, within=_ERROR_S)
    except ModelFailed:
        body = b""  # the status says enough
    text = error_message(parse_object(body) or {}) or one_line(body.decode("utf-8", "replace"))
    where = f"the model endpoint {response.origin}"
    said = f" (status {status}){': ' if text else ''}{text}"
    retry_after = _retry_after(response.header(b"retry-after"))
    if status in (400, 422):
        raise InvalidRequest(f"{where} refused the request{said}")
    if status == 413:
        raise TooLarge(f"{where} refused the request{said}")
    if status == 429 or (status == 503 and retry_after is not None):
        raise Busy(f"{where} is busy{said}", retry_after=retry_after)
    raise ModelFailed(f"{where} failed{said}")


def _retry_after(value: str) -> float | None:
    """Seconds to wait as the header says; None for none, for a date (it needs clocks that agree), and for absurd ones."""
    return float(value) if value.isascii() and value.isdigit() and float(value) <= _LONGEST_RETRY_S else None
