"""Asking nodes that join for offers: those who take their time keep nobody else waiting."""

from __future__ import annotations

from typing import Any, cast

import trio
from trio.testing import MockClock

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import OffersAsked, OffersPage
from aicn.services.catalog import Catalog
from aicn.services.enquiries import Enquiries
from aicn.services.ports import Links
from aicn.wire import control

PAGE_S = 3.0  # what a slow node takes for each


class SlowNodes:
    """Peers named `slow…` have a page more after each, and never hurry; the others answer at once."""

    async def offers_of(self, peer: PeerId, asked: OffersAsked) -> OffersPage:
        if not peer.startswith("slow"):
            return OffersPage((b"of " + peer.encode(),))
        await trio.sleep(PAGE_S)
        return OffersPage((), more_after=asked.after + "x")


class AllSpeak:
    """All peers answer control questions."""

    def protocols_of(self, peer: PeerId) -> tuple[str, ...]:
        return (control.PROTOCOL,)


async def test_slow_lists_keep_nobody_waiting(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []
    catalog = Catalog(PeerId("own"), lambda _: Link(Connectivity.CONNECTED, 0.0))
    enquiries = Enquiries(
        cast("Any", SlowNodes()),
        cast("Links", AllSpeak()),
        cast("Any", None),
        catalog,
        lambda signed, _: heard.append(signed),
        topic="t",
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enquiries.run)
        for n in range(8):
            enquiries.joined(PeerId(f"slow {n}"))
        enquiries.joined(PeerId("quick"))
        with trio.fail_after(60):
            while b"of quick" not in heard:
                await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
