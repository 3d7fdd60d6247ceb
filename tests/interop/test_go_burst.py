"""Bursts of pubsub messages to and from Go peers, whose queues hold 32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.interop.gopeer import GoPeer
from tests.interop.pairs import member, open_pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

COUNT = 1000


async def expect_all(go: GoPeer, sender: str, said: list[str]) -> None:
    heard = [(await go.event("message", peer=sender))["sha256"] for _ in said]
    assert Counter(heard) == Counter(said)


@pytest.mark.parametrize("router", ["gossipsub", "floodsub"])
async def test_a_burst_of_ours_is_paced_so_that_go_takes_all_of_it(go_program: Path, router: str) -> None:
    async with open_pair(go_program, "-pubsub", router, pubsub_router=router) as pair:
        with member(pair.host) as ours:
            await ours.meet(pair.go)
            said = await ours.publish(count=COUNT, size=300, pause_s=0)
            await expect_all(pair.go, ours.id, said)
