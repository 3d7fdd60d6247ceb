"""One suite for every RegistrationStore: the fake in memory and SQLite on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from aicn.domain.registration import Endpoint
from aicn.services.ports import RegistrationStore
from aicn.storage.database import open_database
from aicn.storage.registrations import Registrations
from tests.fakes.stores import MemoryRegistrations

OpenStore = Callable[[], AbstractAsyncContextManager[RegistrationStore]]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the store; a second time, when the first is closed, it is the same store again."""
    memory = MemoryRegistrations()

    @asynccontextmanager
    async def open_() -> AsyncIterator[RegistrationStore]:
        if request.param == "memory":
            yield memory
        else:
            async with open_database(tmp_path / "data") as database:
                yield Registrations(database)

    return open_


def endpoint(project: str, model: str, port: int = 1) -> Endpoint:
    return Endpoint(project, model, f"http://127.0.0.1:{port}/v1/chat/completions?key=a%20b", 0)


async def test_a_new_store_is_empty(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert list(await store.load()) == []


async def test_what_was_stored_is_there_after_reopening_in_order(open_store: OpenStore) -> None:
    mine = [endpoint("p", "z"), endpoint("p", "a"), endpoint("p", "z", 2), endpoint("p", "z", 2)]
    async with open_store() as store:
        await store.replace_project("q", [Endpoint("q", "draw", "https://h/x", 2, context=4096)])
        await store.replace_project("p", mine)
        before = list(await store.load())
    assert before == [*mine, Endpoint("q", "draw", "https://h/x", 2, context=4096)]
    async with open_store() as store:
        assert list(await store.load()) == before


async def test_headers_and_keys_are_kept_in_order(open_store: OpenStore) -> None:
    secret = replace(endpoint("p", "m"), headers=(("X-B", '2, "3"'), ("X-A", "")), api_key="sk-'1")
    async with open_store() as store:
        await store.replace_project("p", [secret, endpoint("p", "m")])
    async with open_store() as store:
        assert list(await store.load()) == [secret, endpoint("p", "m")]


async def test_replacing_a_project_leaves_nothing_of_it_and_all_of_others(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.replace_project("p", [endpoint("p", "a"), endpoint("p", "b"), endpoint("p", "c")])
        await store.replace_project("P", [endpoint("P", "a")])
        await store.replace_project("p", [endpoint("p", "c", 9)])
        assert list(await store.load()) == [endpoint("P", "a"), endpoint("p", "c", 9)]


async def test_a_project_without_endpoints_is_gone(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.replace_project("p", [endpoint("p", "a")])
        await store.replace_project("p", [])
        await store.replace_project("never was", [])
        assert list(await store.load()) == []


async def test_writers_at_once_each_leave_a_whole_project(open_store: OpenStore) -> None:
    async def register(store: RegistrationStore, port: int) -> None:
        await store.replace_project("p", [endpoint("p", model, port) for model in "abc"])

    async with open_store() as store:
        async with trio.open_nursery() as nursery:
            for port in range(20):
                nursery.start_soon(register, store, port)
        stored = list(await store.load())
    assert [e.model for e in stored] == ["a", "b", "c"]
    assert len({e.url for e in stored}) == 1


texts = st.text(min_size=1, max_size=20)


@given(st.lists(st.tuples(texts, st.lists(st.tuples(texts, texts, st.integers(0, 2)), max_size=3)), max_size=4))
@settings(max_examples=25, deadline=None)
def test_any_text_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, projects: list[tuple[str, list[tuple[str, str, int]]]]
) -> None:
    async def both() -> None:
        memory = MemoryRegistrations()
        async with open_database(tmp_path_factory.mktemp("data")) as database:
            disk = Registrations(database)
            for project, models in projects:
                endpoints = [Endpoint(project, *model) for model in models]
                await memory.replace_project(project, endpoints)
                await disk.replace_project(project, endpoints)
            assert list(await disk.load()) == list(await memory.load())

    trio.run(both)
