from __future__ import annotations

import time
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.domain.offers import NodeType, Offer
from aicn.errors import ProtocolViolation, StorageError
from aicn.services.catalog import Catalog
from aicn.services.offer_cache import WRITE_S, OfferCache
from tests.fakes.stores import MemoryOffers

OWN, A, B = map(PeerId, ("own", "a", "b"))


class World:
    """A catalog and its cache; a message is signed by being node and number."""

    def __init__(self) -> None:
        self.catalog = Catalog(OWN, lambda _: Link(Connectivity.NOT_CONNECTED, 0.0))
        self.store = MemoryOffers()
        self.cache = OfferCache(self.store, self.catalog, self.hear)

    def hear(self, signed: bytes) -> PeerId:
        node, _, seq = signed.decode().partition(" ")
        if not seq.isdigit():
            raise ProtocolViolation("nothing of ours")
        self.catalog.take(offer(PeerId(node), int(seq)), signed)
        return PeerId(node)


def offer(node: PeerId, seq: int) -> Offer:
    now = time.time()
    return Offer(node, seq, now, now + 60, NodeType(0), ())


async def test_changes_are_written_in_batches_and_at_the_end(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.cache.run)
        await wait_all_tasks_blocked()
        for seq in range(1, 5):
            world.hear(b"a %d" % seq)
        world.hear(b"b 1")
        await trio.sleep(WRITE_S / 2)
        assert world.store.signed == {}
        await trio.sleep(WRITE_S)
        assert world.store.signed == {A: b"a 4", B: b"b 1"}
        world.catalog.take(replace(offer(B, 2), leaving=True))
        world.catalog.set_own(offer(OWN, 7), b"own 7")
        await trio.sleep(2 * WRITE_S)
        assert world.store.signed == {A: b"a 4", OWN: b"own 7"}
        world.catalog.set_own(replace(offer(OWN, 8), leaving=True), b"own 8")
        nursery.cancel_scope.cancel()
    assert world.store.signed == {A: b"a 4", OWN: b"own 8"}  # kept, for its number


async def test_what_is_stored_is_heard_and_what_is_worth_nothing_forgotten(autojump_clock: MockClock) -> None:
    world = World()
    world.store.signed = {A: b"a 4", B: b"b 0", PeerId("c"): b"junk", OWN: b"own 9"}
    world.catalog.take(replace(offer(B, 5), leaving=True))  # as if it had been over
    async with trio.open_nursery() as nursery:
        await world.cache.load()
        assert world.catalog.nodes() == [A]
        assert world.catalog.own_seq == 9
        nursery.start_soon(world.cache.run)
        await trio.sleep(2 * WRITE_S)
        assert world.store.signed == {A: b"a 4", PeerId("c"): b"junk", OWN: b"own 9"}
        nursery.cancel_scope.cancel()


async def test_a_store_that_fails_is_said_and_does_no_harm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.store.failure = StorageError("the disk is full")
    async with trio.open_nursery() as nursery:
        await world.cache.load()
        nursery.start_soon(world.cache.run)
        await wait_all_tasks_blocked()
        world.hear(b"a 1")
        await trio.sleep(2 * WRITE_S)
        world.store.failure = None
        world.hear(b"a 2")
        await trio.sleep(2 * WRITE_S)
        nursery.cancel_scope.cancel()
    assert world.store.signed == {A: b"a 2"}
    assert caplog.text.count("the disk is full") == 2
