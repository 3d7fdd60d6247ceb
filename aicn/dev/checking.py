"""A model endpoint under examination: what is asked of it goes through the node's own client, so that what fails here fails there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import httpx
import trio

from aicn.backends.openai_http import OpenAIEndpoints, open_endpoints
from aicn.config.schema import Limits
from aicn.domain.inference import End, InferenceRequest
from aicn.domain.registration import KIND_OF_TYPE, Endpoint
from aicn.errors import AicnError, ModelFailed
from aicn.wire.completion import one_line

FETCHED_BYTES = 32 * 2**20  # most of what is fetched beside answers: a picture, a list of models
_HIDDEN = "(hidden)"

Verdict = Literal["ok", "FAILED", "advice"]


class Finding(NamedTuple):
    """The outcome of one check; an advice is nothing that a node minds."""

    name: str
    verdict: Verdict
    text: str


Tell = Callable[[Finding], None]


class Asked(NamedTuple):
    """A whole answer."""

    pieces: list[bytes]  # as they came
    end: End

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Subject:
    """The endpoint, the ways to ask it, and what was found. Nothing secret of it is ever told."""

    endpoint: Endpoint
    limits: Limits
    endpoints: OpenAIEndpoints
    client: httpx.AsyncClient
    tell: Tell
    failed: bool = field(default=False, init=False)

    async def ask(self, body: dict[str, Any], *, stream: bool = False) -> Asked:
        """What a node gets for `body`. AicnError."""
        endpoint = self.endpoint
        request = InferenceRequest(
            id="check",
            kind=KIND_OF_TYPE[endpoint.type],
            project=endpoint.project,
            model=endpoint.model,
            body=json.dumps({"model": endpoint.model, **body}).encode(),
            stream=stream,
            deadline=trio.current_time() + self.limits.request_s,
        )
        answer = await self.endpoints.open(endpoint, request)
        try:
            pieces = [chunk.data async for chunk in answer]
        finally:
            await answer.aclose()
        assert answer.end is not None
        return Asked(pieces, answer.end)

    async def post(self, **content: Any) -> tuple[int, bytes]:
        """Status and body of a bare POST; `content` as httpx has it. ModelFailed."""
        return await self._exchange("POST", self.endpoint.url, headers=self._headers(), **content)

    async def get(self, url: str, *, own: bool = False) -> tuple[int, bytes]:
        """Status and body of `url`; `own`: it belongs to the endpoint, which wants its key. ModelFailed."""
        return await self._exchange("GET", url, headers=self._headers() if own else {})

    async def attempt(self, name: str, check: Callable[[Subject], Awaitable[str]], *, required: bool = True) -> bool:
        """Run a check, which returns what is good or raises an AicnError; whether it was good."""
        try:
            text = await check(self)
        except AicnError as error:
            self.failed = self.failed or required
            self._tell(name, "FAILED" if required else "advice", error.message)
            return False
        self._tell(name, "ok", text)
        return True

    def advise(self, name: str, text: str) -> None:
        """What could be better."""
        self._tell(name, "advice", text)

    def _tell(self, name: str, verdict: Verdict, text: str) -> None:
        for secret in self._secrets():
            text = text.replace(secret, _HIDDEN)
        self.tell(Finding(name, verdict, one_line(text)))

    def _secrets(self) -> list[str]:
        password = urlsplit(self.endpoint.url).password or ""
        return [secret for secret in (self.endpoint.api_key, password, unquote(password)) if secret]

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.endpoint.api_key}"} if self.endpoint.api_key else {}

    async def _exchange(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        body = bytearray()
        try:
            async with self.client.stream(method, url, **options) as response:
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > FETCHED_BYTES:
                        raise ModelFailed(f"more than {FETCHED_BYTES} bytes were answered")
                return response.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ModelFailed(f"{method} failed: {error or type(error).__name__}") from error


@asynccontextmanager
async def open_subject(endpoint: Endpoint, *, within_s: float, tell: Tell) -> AsyncIterator[Subject]:
    """The endpoint, ready to be asked; no answer may take longer than `within_s`."""
    limits = Limits(first_byte_s=within_s, gap_s=within_s, request_s=within_s)
    timeout = httpx.Timeout(within_s, connect=limits.connect_s)
    async with open_endpoints(limits) as endpoints, httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        yield Subject(endpoint, limits, endpoints, client, tell)
