"""One suite for every AddressBook: the fake in memory and SQLite on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from aicn.domain.ids import PeerId
from aicn.domain.nodes import DialOutcome, KnownAddress
from aicn.services.ports import AddressBook
from aicn.storage.addresses import MOST_ADDRESSES, Addresses
from aicn.storage.database import open_database
from tests.fakes.stores import MemoryAddresses

OpenBook = Callable[[], AbstractAsyncContextManager[AddressBook]]
NOW = 1_800_000_000.25
DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def open_book(request: pytest.FixtureRequest, tmp_path: Path) -> OpenBook:
    """Opens the book; a second time, when the first is closed, it is the same book again."""
    memory = MemoryAddresses()

    @asynccontextmanager
    async def open_() -> AsyncIterator[AddressBook]:
        if request.param == "memory":
            yield memory
        else:
            async with open_database(tmp_path / "data") as database:
                yield Addresses(database)

    return open_


def reached(name: str, at: float = NOW, address: str = "/ip4/192.0.2.1/tcp/1") -> DialOutcome:
    return DialOutcome(PeerId(name), address, at, True)


def failed(name: str, at: float = NOW, address: str = "/ip4/192.0.2.1/tcp/1") -> DialOutcome:
    return DialOutcome(PeerId(name), address, at, False)


def heard(name: str, at: float = NOW, address: str = "/ip4/192.0.2.1/tcp/1") -> DialOutcome:
    return DialOutcome(PeerId(name), address, at, None)


async def test_a_new_book_is_empty(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([])
        assert list(await book.load(10)) == []


async def test_what_was_reached_is_there_after_reopening(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([reached("a"), failed("a", NOW + 1), reached("b", NOW + 2)])
        await book.record([failed("a", NOW + 3)])
    async with open_book() as book:
        assert list(await book.load(10)) == [
            KnownAddress(PeerId("b"), "/ip4/192.0.2.1/tcp/1", NOW + 2, 1, 0),
            KnownAddress(PeerId("a"), "/ip4/192.0.2.1/tcp/1", NOW, 1, 2),
        ]


async def test_a_success_ends_a_row_of_failures(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([reached("a"), *[failed("a")] * 9, reached("a", NOW + 5)])
        assert list(await book.load(10)) == [KnownAddress(PeerId("a"), "/ip4/192.0.2.1/tcp/1", NOW + 5, 2, 0)]


async def test_what_was_never_reached_is_not_kept(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([failed("a"), reached("b"), failed("b", address="/ip4/192.0.2.9/tcp/9")])
        assert [(one.peer, one.address) for one in await book.load(10)] == [("b", "/ip4/192.0.2.1/tcp/1")]


async def test_what_was_only_heard_comes_after_what_was_reached(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([heard("a", NOW + 5), reached("b"), heard("b", NOW + 1), heard("c"), reached("c")])
        await book.record([failed("d"), failed("a")])
        assert list(await book.load(10)) == [
            KnownAddress(PeerId("b"), "/ip4/192.0.2.1/tcp/1", NOW + 1, 1, 0),
            KnownAddress(PeerId("c"), "/ip4/192.0.2.1/tcp/1", NOW, 1, 0),
            KnownAddress(PeerId("a"), "/ip4/192.0.2.1/tcp/1", NOW + 5, 0, 2),
        ]


async def test_ten_failures_and_thirty_days_are_the_end(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([reached("a")])
        await book.record([failed("a", NOW + DAY)] * 20)
        assert len(await book.load(10)) == 1  # not old
        await book.record([reached("b", NOW), *[failed("b", NOW + 31 * DAY)] * 9, reached("c", NOW + 31 * DAY)])
        assert [one.peer for one in await book.load(10)] == ["c", "b"]  # b has not failed often enough
        await book.record([failed("b", NOW + 31 * DAY)])
        assert [one.peer for one in await book.load(10)] == ["c"]


async def test_the_most_promising_first(open_book: OpenBook) -> None:
    async with open_book() as book:
        await book.record([reached("a", NOW), reached("b", NOW + 2), reached("c", NOW + 1), reached("d", NOW + 9)])
        await book.record([failed("d", NOW + 10)])
        assert [one.peer for one in await book.load(3)] == ["b", "c", "a"]


async def test_the_file_is_bounded(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        book = Addresses(database)
        await book.record([reached(f"{number:05}", NOW + number) for number in range(MOST_ADDRESSES + 500)])
        kept = await book.load(10_000)
        assert len(kept) == MOST_ADDRESSES
        assert kept[-1].peer == "00500"
