"""One suite for the stores of keys and of usage: the fakes in memory and SQLite on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from aicn.domain.keys import Key, Scope
from aicn.domain.usage import HOUR_S, Counts, Row
from aicn.services.ports import KeyStore, UsageStore
from aicn.storage.database import open_database
from aicn.storage.keys import Keys
from aicn.storage.usage import Usage
from tests.fakes.stores import MemoryKeys, MemoryUsage

OpenStores = Callable[[], AbstractAsyncContextManager[tuple[KeyStore, UsageStore]]]


@pytest.fixture(params=["memory", "sqlite"])
def open_stores(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStores:
    """Opens them; a second time, when the first is closed, they are the same again."""
    memory = MemoryKeys(), MemoryUsage()

    @asynccontextmanager
    async def open_() -> AsyncIterator[tuple[KeyStore, UsageStore]]:
        if request.param == "memory":
            yield memory
        else:
            async with open_database(tmp_path / "data") as database:
                yield Keys(database), Usage(database)

    return open_


def key(key_id: str, created_at: float, scope: Scope | None = None) -> Key:
    return Key(key_id, "näme", b"\0digest", scope or Scope(), created_at)


async def test_keys_are_there_after_reopening_the_oldest_first(open_stores: OpenStores) -> None:
    full = Scope(("p/*", '"m"'), 60, 2**53 - 1, 3, 9e9, admin=True)
    kept = [key("b", 1.5, full), key("a", 2.0), key("c", 2.0)]
    async with open_stores() as (keys, _):
        assert list(await keys.load()) == []
        for one in reversed(kept):
            await keys.add(one)
        await keys.add(key("d", 0.0))
        await keys.remove("d")
        await keys.remove("never was")
    async with open_stores() as (keys, _):
        assert list(await keys.load()) == kept


async def test_usage_adds_up_and_is_forgotten(open_stores: OpenStores) -> None:
    first, second = Row(0, "k", "p", "m", "n"), Row(HOUR_S, "", "p", "m", "n")
    counts = Counts(1, 2, 3, 4, 5, 6, 7)
    async with open_stores() as (_, usage):
        await usage.add({first: counts, second: counts}, forget_before=0)
        await usage.add({first: counts}, forget_before=0)
    async with open_stores() as (_, usage):
        assert list(await usage.load(0)) == [(first, Counts(2, 4, 6, 8, 10, 12, 14)), (second, counts)]
        assert list(await usage.load(1)) == [(second, counts)]
        await usage.add({}, forget_before=HOUR_S)
        assert list(await usage.load(0)) == [(second, counts)]
