from __future__ import annotations

import pytest

from aicn.domain.inference import Kind
from aicn.domain.registration import Endpoint, Project
from aicn.errors import InvalidRequest, StorageError, UnknownModel
from aicn.services.registration import MOST_ENDPOINTS, MOST_PROJECTS, Registration
from tests.fakes.stores import MemoryRegistrations

CHAT = Endpoint("P", "chat", "http://127.0.0.1:1/v1/chat/completions")
PAINT = Endpoint("P", "paint", "http://127.0.0.1:2/v1/images/generations", 1)
OWN = Endpoint("local", "tiny", "http://127.0.0.1:3/v1/chat/completions")


async def test_what_was_registered_is_there_after_a_restart() -> None:
    store = MemoryRegistrations()
    await Registration(store).register("P", [CHAT, PAINT])
    again = Registration(store)
    assert again.projects() == []
    await again.load()
    assert again.projects() == [Project("P", ("chat", "paint"))]


async def test_register_replaces_the_project() -> None:
    registration = Registration(MemoryRegistrations())
    await registration.register("P", [CHAT, PAINT])
    await registration.register("P", [PAINT])
    assert registration.projects() == [Project("P", ("paint",))]


async def test_unregister_a_project_a_model_or_nothing() -> None:
    registration = Registration(MemoryRegistrations())
    await registration.register("P", [CHAT, PAINT])
    assert not await registration.unregister("Q")
    assert not await registration.unregister("P", "other")
    assert await registration.unregister("P", "chat")
    assert registration.projects() == [Project("P", ("paint",))]
    assert await registration.unregister("P")
    assert registration.projects() == []
    assert not await registration.unregister("P")


async def test_a_change_that_is_not_on_disk_is_not_seen() -> None:
    store = MemoryRegistrations()
    store.failure = StorageError("disk full")
    registration = Registration(store)
    with pytest.raises(StorageError):
        await registration.register("P", [CHAT])
    assert registration.projects() == []


async def test_find_names_what_is_missing() -> None:
    registration = Registration(MemoryRegistrations())
    await registration.register("P", [CHAT, PAINT])
    assert registration.find(Kind.CHAT, "P", "chat") == [CHAT]
    with pytest.raises(UnknownModel, match="no project 'Q'"):
        registration.find(Kind.CHAT, "Q", "chat")
    with pytest.raises(UnknownModel, match="no model 'x'"):
        registration.find(Kind.CHAT, "P", "x")
    with pytest.raises(UnknownModel, match="not one for chat"):
        registration.find(Kind.CHAT, "P", "paint")


async def test_a_model_may_have_several_endpoints_each_once() -> None:
    registration = Registration(MemoryRegistrations())
    twin = Endpoint("P", "chat", "http://127.0.0.1:9/")
    await registration.register("P", [CHAT, twin, CHAT])
    assert registration.find(Kind.CHAT, "P", "chat") == [CHAT, twin]
    assert registration.projects() == [Project("P", ("chat",))]


async def test_the_embedded_model_comes_and_goes() -> None:
    registration = Registration(MemoryRegistrations())
    registration.set_own(OWN)
    assert registration.projects() == [Project("local", ("tiny",))]
    assert registration.find(Kind.CHAT, "local", "tiny") == [OWN]
    with pytest.raises(InvalidRequest, match="local_model"):
        await registration.unregister("local")
    registration.set_own(None)
    assert registration.projects() == []


async def test_listeners_hear_each_change_once_it_is_durable() -> None:
    store = MemoryRegistrations()
    registration = Registration(store)
    heard: list[tuple[list[Project], int]] = []
    registration.on_change(lambda: heard.append((registration.projects(), len(store.projects))))
    await registration.register("P", [CHAT])
    await registration.unregister("P", "other")
    await registration.unregister("P")
    registration.set_own(OWN)
    assert heard == [([Project("P", ("chat",))], 1), ([], 0), ([Project("local", ("tiny",))], 0)]
    store.failure = StorageError("disk full")
    with pytest.raises(StorageError):
        await registration.register("P", [CHAT])
    assert len(heard) == 3


async def test_a_node_has_so_many_projects_and_endpoints_and_replacing_makes_room() -> None:
    store = MemoryRegistrations()
    registration = Registration(store)
    for number in range(MOST_PROJECTS):
        await registration.register(f"P{number}", [CHAT])
    with pytest.raises(InvalidRequest, match=r"^project: the node has 256"):
        await registration.register("one more", [CHAT])
    many = [Endpoint("P0", f"m{n}", "http://127.0.0.1:1/") for n in range(MOST_ENDPOINTS - MOST_PROJECTS + 1)]
    await registration.register("P0", many)
    with pytest.raises(InvalidRequest, match=r"^models: 2, and the node has room for 1 more"):
        await registration.register("P1", [CHAT, PAINT])
    assert store.projects["P1"] == (CHAT,)
    await registration.register("P0", many[1:])
    await registration.register("P1", [CHAT, PAINT])


@pytest.mark.parametrize(
    ("type_", "kind"), [(0, Kind.CHAT), (1, Kind.IMAGE_GENERATION), (2, Kind.IMAGE_EDIT), (3, Kind.EMBEDDING)]
)
async def test_a_type_serves_its_kind_of_request_alone(type_: int, kind: Kind) -> None:
    registration = Registration(MemoryRegistrations())
    endpoint = Endpoint("P", "m", "http://127.0.0.1:1/", type_)
    await registration.register("P", [endpoint])
    assert registration.find(kind, "P", "m") == [endpoint]
    for other in set(Kind) - {kind}:
        with pytest.raises(UnknownModel, match="is not one for"):
            registration.find(other, "P", "m")


async def test_a_server_of_chats_completes_texts_beside_them() -> None:
    registration = Registration(MemoryRegistrations())
    urls = (
        "http://127.0.0.1:1/v1/chat/completions?k=v",
        "http://127.0.0.1:2/own/path",
        "http://127.0.0.1:3/v1/chat/completions",
    )
    chats = [Endpoint("P", "chat", url, api_key="secret") for url in urls]
    await registration.register(
        "P", [*chats, Endpoint("P", "vectors", "http://127.0.0.1:4/chat/completions", 3), Endpoint("P", "odd", urls[1])]
    )
    found = registration.find(Kind.COMPLETION, "P", "chat")
    assert [one.url for one in found] == ["http://127.0.0.1:1/v1/completions?k=v", "http://127.0.0.1:3/v1/completions"]
    assert {one.api_key for one in found} == {"secret"}
    assert registration.find(Kind.CHAT, "P", "chat") == chats
    with pytest.raises(UnknownModel, match="not one for completion requests: its endpoint's URL"):
        registration.find(Kind.COMPLETION, "P", "odd")
    with pytest.raises(UnknownModel, match=r"not one for completion requests$"):
        registration.find(Kind.COMPLETION, "P", "vectors")
