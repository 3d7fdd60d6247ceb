"""How long an attempt may take: learned, with floors, ceilings and the cold-load case."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.domain.routing import Budget
from aicn.services.routing import Router

LIMITS = Limits(queue_s=60.0, first_byte_s=300.0, gap_s=120.0)
CEILING = Budget(accept_s=15.0, first_s=390.0, gap_s=150.0, hedge_s=None)
ONE, OTHER = (
    Provider(PeerId(name), OfferedModel("M", Kind.CHAT, 4), Link(Connectivity.CONNECTED, 0.01)) for name in "ab"
)


def a_request(body: bytes = b"", *, stream: bool = True) -> InferenceRequest:
    return InferenceRequest("r", Kind.CHAT, "P", "M", body, stream=stream, deadline=1e9)


class Gateway:
    """A router that has seen `ONE` answer."""

    def __init__(self, *firsts: float, silence_s: float = 0.0, pace_s: float = 0.02, stream: bool = True) -> None:
        self.now = 1000.0
        self.router = Router(PeerId("own"), LIMITS, chance=random.Random(1), clock=lambda: self.now)
        for first in firsts:
            self.router.started(ONE)
            self.router.first_chunk(ONE, a_request(stream=stream), first)
            self.router.ended(
                ONE, error=None, chunks=101 if stream else 1, seconds=100 * pace_s * stream, silence_s=silence_s
            )

    def budget(self, provider: Provider = ONE, request: InferenceRequest | None = None) -> Budget:
        return self.router.budget(provider, request or a_request())


def test_nothing_is_known() -> None:
    assert Gateway().budget() == CEILING
    assert Gateway(*[0.1] * 7).budget() == CEILING  # not enough


def test_floors() -> None:
    assert Gateway(*[0.001] * 20).budget() == Budget(accept_s=15.0, first_s=5.0, gap_s=1.0, hedge_s=0.05)


def test_what_was_seen_counts() -> None:
    gateway = Gateway(*[2.0] * 19, 10.0, silence_s=0.5)
    assert gateway.budget() == Budget(accept_s=15.0, first_s=40.0, gap_s=2.0, hedge_s=10.0)


def test_ceilings() -> None:
    gateway = Gateway(*[200.0] * 20, silence_s=100.0)
    assert gateway.budget() == replace(CEILING, hedge_s=200.0)


def test_others_with_the_model_stand_in_but_nobody_gives_up_a_cold_one() -> None:
    budget = Gateway(*[2.0] * 20, silence_s=0.5).budget(OTHER)
    assert budget == Budget(accept_s=15.0, first_s=390.0, gap_s=2.0, hedge_s=2.0)


def test_after_a_pause_the_model_may_have_to_be_loaded() -> None:
    gateway = Gateway(*[2.0] * 20)
    gateway.now += 300
    assert gateway.budget().first_s == 390.0
    assert gateway.budget().hedge_s == 2.0


def test_a_prompt_that_is_longer_than_all_before() -> None:
    gateway = Gateway(*[2.0] * 20)
    budget = gateway.budget(request=a_request(b"x" * 2_000_000))
    assert (budget.accept_s, budget.first_s, budget.hedge_s) == (17.0, 390.0, None)


def test_plain_answers_begin_when_they_end() -> None:
    gateway = Gateway(*[30.0] * 20, stream=False)
    assert gateway.budget(request=a_request(stream=False)).first_s == 120.0
    assert gateway.budget() == CEILING


@pytest.mark.parametrize("connectivity", [Connectivity.NOT_CONNECTED, Connectivity.CAN_CONNECT])
def test_who_must_be_dialled_first_gets_the_time(connectivity: Connectivity) -> None:
    far = Provider(ONE.node, ONE.model, Link(connectivity, 0.0))
    assert Gateway().budget(far).accept_s == 30.0
