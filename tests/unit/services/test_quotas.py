"""What keys may: limits at their edges."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicn.domain.keys import Key, Scope
from aicn.domain.usage import DAY_S
from aicn.errors import Forbidden, RateLimited
from aicn.services.quotas import Lease, Quotas

NOON = 20_000 * DAY_S + DAY_S / 2


class Clock:
    """Unix time, set by hand."""

    now = NOON

    def __call__(self) -> float:
        return self.now


def key(**scope: object) -> Key:
    return Key("0123456789ab", "k", b"", Scope(**scope), 0.0)  # type: ignore[arg-type]


def enter(quotas: Quotas, one: Key, body: bytes = b"{}") -> Lease:
    return quotas.enter(one, "p", "m", body)


def test_models() -> None:
    quotas = Quotas()
    enter(quotas, key(models=("p/*",)))
    with pytest.raises(Forbidden, match="p/m"):
        enter(quotas, key(models=("q/*",)))


@given(st.lists(st.floats(0.0, 30.0), max_size=40), st.integers(1, 5))
def test_no_minute_has_more_requests_than_allowed(pauses: list[float], most: int) -> None:
    clock = Clock()
    quotas, limited = Quotas(clock=clock), key(requests_per_minute=most)
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        try:
            enter(quotas, limited).settle(0)
            admitted.append(clock.now)
        except RateLimited as error:
            assert error.retry_after is not None
            clock.now += error.retry_after + 1e-3
            enter(quotas, limited).settle(0)  # the advice holds
            admitted.append(clock.now)
    for place, at in enumerate(admitted):
        assert sum(1 for other in admitted[place:] if other < at + 60 - 1e-6) <= most


def test_places_are_given_back_once() -> None:
    quotas, limited = Quotas(), key(concurrency=2)
    first, _ = enter(quotas, limited), enter(quotas, limited)
    with pytest.raises(RateLimited, match="2 requests"):
        enter(quotas, limited)
    first.settle(0)
    first.settle(0)
    enter(quotas, limited)
    with pytest.raises(RateLimited):
        enter(quotas, limited)


def test_what_runs_counts_as_if_it_took_all_it_may() -> None:
    clock = Clock()
    quotas, limited = Quotas(clock=clock), key(tokens_per_day=1000)
    body = json.dumps({"messages": [], "max_tokens": 600}).encode()
    first = enter(quotas, limited, body)
    with pytest.raises(RateLimited, match="of 1000 left") as caught:
        enter(quotas, limited, body)
    assert caught.value.retry_after == DAY_S / 2
    first.settle(10)
    enter(quotas, limited, body).settle(985)
    with pytest.raises(RateLimited, match="has 5 of 1000"):
        enter(quotas, limited, body)
    clock.now += DAY_S / 2
    enter(quotas, limited, body)


def test_without_a_limit_of_its_own_an_answer_may_take_what_is_left() -> None:
    quotas, limited = Quotas(), key(tokens_per_day=100)
    assert enter(quotas, limited).reserved == 100
    with pytest.raises(RateLimited):
        enter(quotas, limited)
    assert enter(quotas, key()).reserved == 0


def test_a_refused_request_holds_nothing() -> None:
    quotas, limited = Quotas(), key(tokens_per_day=10, requests_per_minute=1, concurrency=1)
    for _ in range(3):
        with pytest.raises(RateLimited, match="tokens"):
            enter(quotas, limited, b'{"max_tokens": 11}')
    enter(quotas, limited)
