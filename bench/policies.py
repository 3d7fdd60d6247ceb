"""Policies of choosing a worker, for bench/routing.py."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import Accepted, InferenceRequest, Kind
from aicn.domain.offers import Provider
from aicn.services.routing import Router

ATTEMPTS = 5  # workers asked for one request
REQUEST = InferenceRequest("r", Kind.CHAT, "P", "M", b"{}", stream=True, deadline=0.0)


class Policy:
    """One gateway's way of choosing. This one: any of them."""

    def __init__(self, chance: random.Random, _: Callable[[], float]) -> None:
        self.chance = chance
        self.in_flight: dict[PeerId, int] = {}

    def order(self, providers: Sequence[Provider]) -> Sequence[Provider]:
        return self.chance.sample(providers, min(ATTEMPTS, len(providers)))

    def started(self, provider: Provider) -> None:
        self.in_flight[provider.node] = self.in_flight.get(provider.node, 0) + 1

    def admitted(self, provider: Provider, accepted: Accepted) -> None:
        pass

    def first_chunk(self, provider: Provider, seconds: float) -> None:
        pass

    def ended(self, provider: Provider, **_: object) -> None:
        self.in_flight[provider.node] -= 1


class RoundRobin(Policy):
    """Each in turn, from a place of its own."""

    def __init__(self, chance: random.Random, clock: Callable[[], float]) -> None:
        super().__init__(chance, clock)
        self._turn = chance.randrange(1000)

    def order(self, providers: Sequence[Provider]) -> Sequence[Provider]:
        self._turn += 1
        return [providers[(self._turn + i) % len(providers)] for i in range(min(ATTEMPTS, len(providers)))]


class LeastInFlight(Policy):
    """Who has the fewest requests of this gateway; any of equals."""

    def order(self, providers: Sequence[Provider]) -> Sequence[Provider]:
        tie = self.chance.random
        return heapq.nsmallest(ATTEMPTS, providers, key=lambda one: (self.in_flight.get(one.node, 0), tie()))


class Ours(Policy):
    """The node's own router."""

    def __init__(self, chance: random.Random, clock: Callable[[], float]) -> None:
        self.router = Router(PeerId("gateway"), Limits(), chance=chance, clock=clock)
        self.admitted = self.router.admitted  # type: ignore[method-assign]
        self.started = self.router.started  # type: ignore[method-assign]
        self.ended = self.router.ended  # type: ignore[method-assign, assignment]

    def order(self, providers: Sequence[Provider]) -> Sequence[Provider]:
        return self.router.rank(REQUEST, providers)[0]

    def first_chunk(self, provider: Provider, seconds: float) -> None:
        self.router.first_chunk(provider, REQUEST, seconds)


POLICIES: dict[str, type[Policy]] = {
    "random": Policy,
    "round robin": RoundRobin,
    "least in-flight": LeastInFlight,
    "ours": Ours,
}
