"""Model endpoints that speak OpenAI's HTTP API, or the model endpoint standard of the existing network (spec 2), which is part of it.

What the caller sent goes to the endpoint as it is, with none of the caller's headers; what becomes of its answer is in answers.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from aicn.backends.answers import NOT_LET_IN, begin
from aicn.backends.pool import Pool, open_pool
from aicn.config.schema import Limits
from aicn.domain.inference import InferenceRequest
from aicn.domain.registration import Endpoint
from aicn.errors import ModelFailed
from aicn.services.ports import Answer
from aicn.wire.form import encode_form
from aicn.wire.json_body import take

_PROBE_S = 10.0  # for an endpoint to refuse an empty request


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
        own = _own_headers(endpoint)
        response = await self._pool.post(
            endpoint.url,
            headers=[(b"Content-Type", content_type), (b"Accept", accept), *own],
            body=body,
            within=limits.first_byte_s,
        )
        secrets = [value.removeprefix(b"Bearer ") for _, value in own]
        return await begin(response, request, limits, started=started, secrets=secrets)

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
            raise ModelFailed(NOT_LET_IN.format(response.source, status))
        if status in (501, 502, 503, 504):  # 501: llama.cpp without --embeddings; 503: it loads its model
            raise ModelFailed(f"the model endpoint {response.origin} does not do this now (status {status})")


def _form(request: InferenceRequest) -> tuple[bytes, bytes]:
    """Content type and body for an endpoint that is given files: the client's fields beside them."""
    members, _ = take(request.body)
    content_type, body = encode_form(members, request.parts)
    return content_type.encode(), body


def _own_headers(endpoint: Endpoint) -> list[tuple[bytes, bytes]]:
    """What the operator registered for this endpoint."""
    headers = [(name.encode(), value.encode()) for name, value in endpoint.headers]
    if endpoint.api_key:
        headers.append((b"Authorization", b"Bearer " + endpoint.api_key.encode()))
    return headers
