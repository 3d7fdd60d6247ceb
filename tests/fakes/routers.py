"""Routers that a test can rely on, and what they are asked with."""

from __future__ import annotations

import random
from collections.abc import Sequence

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.domain.routing import Verdict
from aicn.errors import AicnError
from aicn.services.routing import Router

OWN = PeerId("own")
NEAR = Link(Connectivity.CONNECTED, 0.01)


class AsGiven(Router):
    """Asks in the order of the directory."""

    def __init__(self) -> None:
        super().__init__(PeerId("own"), Limits())

    def rank(self, request: InferenceRequest, providers: Sequence[Provider]) -> tuple[list[Provider], list[Verdict]]:
        return list(providers), [Verdict(one.node, rank, 0.0, "as given") for rank, one in enumerate(providers)]


def a_node(name: str, *, link: Link = NEAR, slots: int = 4, in_flight: int = 0, context: int = 0) -> Provider:
    return Provider(PeerId(name), OfferedModel("M", Kind.CHAT, slots, in_flight, context), link)


def a_request(body: bytes = b"{}", *, stream: bool = True) -> InferenceRequest:
    return InferenceRequest("r", Kind.CHAT, "P", "M", body, stream=stream, deadline=1e9)


def a_chat(*said: str) -> InferenceRequest:
    roles = ("user", "assistant")
    turns = ",".join(f'{{"role":"{roles[i % 2]}","content":"{text}"}}' for i, text in enumerate(said))
    return a_request(f'{{"messages":[{{"role":"system","content":"Be kind."}},{turns}],"model":"M"}}'.encode())


class Gateway:
    """A router with a clock and dice of ours."""

    def __init__(self, *, seed: int = 1) -> None:
        self.now = 1000.0
        self.router = Router(OWN, Limits(), chance=random.Random(seed), clock=lambda: self.now)

    def rank(self, *providers: Provider, request: InferenceRequest | None = None) -> list[PeerId]:
        return [one.node for one in self.router.rank(request or a_request(), providers)[0]]

    def verdicts(self, *providers: Provider, request: InferenceRequest | None = None) -> dict[str, Verdict]:
        return {one.node: one for one in self.router.rank(request or a_request(), providers)[1]}

    def reasons(self, *providers: Provider, request: InferenceRequest | None = None) -> dict[str, str]:
        return {node: one.reason for node, one in self.verdicts(*providers, request=request).items()}

    def answers(
        self, provider: Provider, first_s: float = 0.1, pace_s: float = 0.01, *, request: InferenceRequest | None = None
    ) -> None:
        """It was asked, and has answered."""
        self.router.started(provider)
        self.router.first_chunk(provider, request or a_request(), first_s)
        self.router.ended(provider, error=None, chunks=101, seconds=100 * pace_s)

    def fails(self, provider: Provider, error: AicnError) -> None:
        self.router.started(provider)
        self.router.ended(provider, error=error, chunks=0, seconds=0.0)
