from __future__ import annotations

import pytest

from aicn.domain.ids import PeerId
from aicn.errors import Busy
from aicn.services.arrivals import Arrivals

A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


def test_a_peer_has_a_share() -> None:
    arrivals = Arrivals(total=1_000_000, per_peer=400_000)
    arrivals.add(A, 400_000)
    with pytest.raises(Busy):
        arrivals.add(A, 1)
    arrivals.add(B, 400_000)


def test_who_sends_little_is_let_in_when_there_is_no_room() -> None:
    arrivals = Arrivals(total=1_000_000, per_peer=500_000)
    arrivals.add(A, 500_000)
    arrivals.add(B, 500_000)
    arrivals.add(C, 64 * 1024)
    with pytest.raises(Busy) as refused:
        arrivals.add(C, 1)
    assert refused.value.retry_after


def test_what_is_released_is_room_again_and_nothing_is_remembered() -> None:
    arrivals = Arrivals(total=1_000, per_peer=1_000)
    for _ in range(3):
        arrivals.add(A, 1_000)
        arrivals.release(A, 1_000)
    with pytest.raises(Busy):
        arrivals.add(A, 1_001)
    arrivals.release(A, 1_001)
    assert arrivals._held == 0
    assert not arrivals._by_peer
