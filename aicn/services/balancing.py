"""Which of several endpoints of one model is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import trio

from aicn.domain.inference import InferenceRequest
from aicn.domain.registration import Endpoint
from aicn.errors import EndpointDown
from aicn.services.ports import Answer, Endpoints

PASS_OVER_S = (
    5.0  # an endpoint that cannot be connected to is asked last for so long: a server restarts in some seconds
)


class Balancer:
    """The endpoint with the fewest answers at work, each in turn among equals; those that are down come last.

    A request goes to another endpoint only while nothing of it was sent to the first.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._running: dict[str, int] = {}  # answers at work by URL; none: not there
        self._down_until: dict[str, float] = {}  # by URL, trio.current_time()
        self._turn = 0

    async def open(
        self, candidates: Sequence[Endpoint], request: InferenceRequest
    ) -> tuple[Answer, Callable[[], None]]:
        """The answer of one of `candidates` (at least one), and what to call once it has ended. Errors as `Endpoints.open`."""
        failure: EndpointDown | None = None
        for endpoint in self._order(candidates):
            url = endpoint.url
            self._running[url] = self._running.get(url, 0) + 1
            try:
                return await self._endpoints.open(endpoint, request), lambda: self._leave(url)  # noqa: B023 - returned at once
            except EndpointDown as error:
                failure = error
                self._leave(url)
                self._pass_over(url)
            except BaseException:
                self._leave(url)
                raise
        assert failure is not None
        raise failure

    def _order(self, candidates: Sequence[Endpoint]) -> list[Endpoint]:
        now = trio.current_time()
        self._turn += 1
        first = self._turn % len(candidates)
        return sorted(
            (*candidates[first:], *candidates[:first]),
            key=lambda endpoint: (self._down_until.get(endpoint.url, -inf) > now, self._running.get(endpoint.url, 0)),
        )

    def _leave(self, url: str) -> None:
        self._running[url] -= 1
        if not self._running[url]:
            del self._running[url]

    def _pass_over(self, url: str) -> None:
        now = trio.current_time()
        self._down_until = {other: until for other, until in self._down_until.items() if until > now}
        self._down_until[url] = now + PASS_OVER_S
