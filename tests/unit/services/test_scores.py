"""What is remembered of nodes: moving quantiles, failures that fade, and bounds."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.config.schema import Limits
from aicn.domain.ids import PeerId
from aicn.domain.inference import InferenceRequest, Kind
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OfferedModel, Provider
from aicn.errors import AnswerBroken, ModelFailed
from aicn.services import scores
from aicn.services.routing import Router
from aicn.services.scores import Health, Recent, Scores


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_those_of_the_last_observations(values: list[float], share: float) -> None:
    recent = Recent()
    for value in values:
        recent.add(value)
    window = sorted(values[-32:])
    assert len(recent) == len(window)
    assert recent.quantile(share) == window[min(len(window) - 1, int(share * len(window)))]


def test_failures_fade_and_an_answer_ends_the_pause() -> None:
    health = Health()
    health.failed(100.0)
    assert (health.until, health.proven, health.failures(100.0)) == (100.5, False, 1.0)
    assert health.failures(400.0) == pytest.approx(0.5)
    health.failed(101.0)
    assert health.until == pytest.approx(102.0, abs=0.05)
    health.answered()
    assert (health.until, health.proven) == (0.0, True)
    for second in range(1000, 90_000, 100):
        health.failed(float(second))
        assert health.until - second <= 64.0


def test_a_pause_is_a_minute_at_most() -> None:
    health = Health()
    now = 0.0
    for _ in range(50):
        health.failed(now)
        assert health.until - now <= 64
        now = health.until
    assert health.failures(now + 7200) < 0.001


def test_memory_is_bounded_whoever_comes() -> None:
    router = Router(PeerId("own"), Limits(), chance=random.Random(1), clock=lambda: 5.0)
    link = Link(Connectivity.CONNECTED, 0.01)
    for number in range(100_000):
        one = Provider(PeerId(f"n{number}"), OfferedModel(f"M{number}", Kind.CHAT), link)
        body = b'{"messages":[{"role":"user","content":"%d"}]}' % number
        router.started(one)
        router.first_chunk(one, InferenceRequest("r", Kind.CHAT, "P", one.model.name, body, True, 9.0), 0.1)
        error = (AnswerBroken("reset"), ModelFailed("no"), None)[number % 3]
        router.ended(one, error=error, chunks=9, seconds=1.0)
    held: Scores = router._scores
    assert len(held.records) == len(held.models) == scores.MOST_RECORDS
    assert len(held.nodes) == scores.MOST_RECORDS
    assert len(held.conversations) == scores.MOST_CONVERSATIONS
    assert all(isinstance(key, int) for key in held.conversations)  # hashes, no text


def test_a_record_known_well_takes_some_kilobytes() -> None:
    held = Scores()
    record = held.opened(Provider(PeerId("n"), OfferedModel("M", Kind.CHAT), Link(Connectivity.CONNECTED, 0.0)))
    for number in range(1000):
        record.begun(1.0, float(number), stream=True, size=9)
        record.begun(1.0, float(number), stream=False, size=9)
        record.ended(chunks=9, seconds=float(number), silence_s=1.0)
    parts = (record.first, record.whole, record.pace, record.silence)
    size = sum(sys.getsizeof(one._ring) + sys.getsizeof(one._sorted) + 24 * len(one) for one in parts)
    assert size < 8192


def test_who_was_used_last_is_kept() -> None:
    held = Scores()
    link = Link(Connectivity.CONNECTED, 0.0)
    first = Provider(PeerId("first"), OfferedModel("M", Kind.CHAT), link)
    record = held.opened(first)
    for number in range(scores.MOST_RECORDS - 1):
        held.opened(Provider(PeerId(f"n{number}"), OfferedModel("M", Kind.CHAT), link))
    assert held.opened(first) is record
    held.opened(Provider(PeerId("one more"), OfferedModel("M", Kind.CHAT), link))
    assert held.opened(first) is record


def test_the_end_of_a_request_whose_record_was_forgotten_is_no_trouble() -> None:
    router = Router(PeerId("own"), Limits(), chance=random.Random(1), clock=lambda: 5.0)
    one = Provider(PeerId("n"), OfferedModel("M", Kind.CHAT), Link(Connectivity.CONNECTED, 0.0))
    router.ended(one, error=None, chunks=0, seconds=0.0)
    router.started(one)
    assert router._scores.opened(one).in_flight == 1
