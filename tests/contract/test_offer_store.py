"""One suite for every OfferStore: the fake in memory and SQLite on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from aicn.domain.ids import PeerId
from aicn.services.ports import OfferStore
from aicn.storage.database import open_database
from aicn.storage.offers import Offers
from tests.fakes.stores import MemoryOffers

OpenStore = Callable[[], AbstractAsyncContextManager[OfferStore]]
A, B, C = PeerId("a"), PeerId("b"), PeerId("c")


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the store; a second time, when the first is closed, it is the same store again."""
    memory = MemoryOffers()

    @asynccontextmanager
    async def open_() -> AsyncIterator[OfferStore]:
        if request.param == "memory":
            yield memory
        else:
            async with open_database(tmp_path / "data") as database:
                yield Offers(database)

    return open_


async def test_what_was_saved_is_there_after_reopening(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert list(await store.load()) == []
        await store.save({B: b"\0b", A: bytes(200_000)}, [])
        await store.save({}, [])
    async with open_store() as store:
        assert list(await store.load()) == [bytes(200_000), b"\0b"]


async def test_a_newer_one_takes_the_place_and_what_is_gone_is_gone(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.save({A: b"a", B: b"b"}, [])
        await store.save({A: b"newer", C: b"c"}, {B, PeerId("nobody")})
        assert list(await store.load()) == [b"newer", b"c"]
