"""Whole nodes that ask each other as nodes of the existing network are asked; and that do not, as long as there is a newer way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from aicn.p2p.host import Host
from aicn.services.legacy import dialect
from aicn.services.legacy.conversation import Conversation
from aicn.wire import control, inference
from aicn.wire.legacy.envelope import Type
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.hosts import until
from tests.fakes.whole import Whole, open_whole

TOPIC = "DeepBrainChain"
CHAT: dict[str, Any] = {"project": "P", "model": "M", "messages": [{"role": "user", "content": "hi"}], "seed": 3}


@dataclass
class World:
    """Two connected nodes; the other one has a model."""

    ours: Whole
    other: Whole
    endpoint: FakeEndpoint

    async def ask(self, path: str, **more: Any) -> dict[str, Any]:
        with trio.fail_after(30):
            reply = await self.ours.post(path, {"node_id": self.other.id, **more})
        return {"status": reply.status, **reply.json}


@asynccontextmanager
async def open_world(directory: Path, **of_other: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_fake_endpoint())
        ours = await stack.enter_async_context(open_whole(directory / "ours"))
        other = await stack.enter_async_context(open_whole(directory / "other", **of_other))
        await other.register({"model": "M", "api": endpoint.url, "type": 0})
        await ours.connect(other)
        for one, peer in ((ours, other), (other, ours)):
            await until(lambda one=one, peer=peer: peer.id in one.node.topics.subscribers(TOPIC))
        yield World(ours, other, endpoint)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The types of all questions that go over the topic."""
    types: list[int] = []
    ask = Conversation.ask

    async def spied(self: Conversation, peer: Any, kind: Any, question: bytes, **more: Any) -> bytes:
        types.append(kind)
        return await ask(self, peer, kind, question, **more)

    monkeypatch.setattr(Conversation, "ask", spied)
    return types


async def expect_all_calls(world: World) -> None:
    assert (await world.ask("/peer"))["data"]["peer_id"] == world.other.id
    assert (await world.ask("/host/info"))["data"]["os"]["os"]
    assert (await world.ask("/ai/project/peer"))["data"] == [{"project": "P", "models": ["M"]}]
    answer = (await world.ask("/chat/completion", **CHAT))["data"]
    assert answer["choices"][0]["message"]["content"] == world.endpoint.text
    reply = await world.ours.post("/chat/completion", {**CHAT, "node_id": world.other.id, "stream": True})
    assert reply.body.rstrip().endswith(b"data: [DONE]")


async def test_native_nodes_say_nothing_on_the_topic_to_each_other(tmp_path: Path, asked: list[int]) -> None:
    async with open_world(tmp_path) as world:
        await expect_all_calls(world)
        assert asked == []


async def test_the_old_way_between_our_own(tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "_NATIVE", frozenset())
    async with open_world(tmp_path) as world:
        await expect_all_calls(world)
        assert asked == [0, 1, 2]
        assert json.loads(world.endpoint.bodies[-1])["seed"] == 3  # over the stream nothing is lost
        assert (await world.ask("/chat/completion", **CHAT | {"model": "X"}))["code"] == 1006
        embedding = await world.ask("/embedding", project="P", model="M", input="x")
        assert (embedding["status"], embedding["code"]) == (501, 1010)


async def test_the_old_way_over_the_topic_alone(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect, "_spoken", lambda _: None)
    async with open_world(tmp_path) as world:
        await expect_all_calls(world)
        assert asked == [0, 1, 2, 16, 16]
        assert (await world.ask("/chat/completion", **CHAT | {"model": "X"}))["code"] == 1006
        assert (await world.ask("/chat/completion", **CHAT | {"tools": [{}]}))["code"] == 1010


async def test_a_peer_may_come_back_as_another_program(tmp_path: Path, asked: list[int]) -> None:
    """The same key: without this program's protocols, with them, and without them again."""
    async with open_world(tmp_path) as world:
        for native in (False, True, False):
            asked.clear()
            async with open_whole(tmp_path / "changing") as changing:
                if not native:
                    for protocol in (control.PROTOCOL, inference.PROTOCOL):
                        cast("Host", changing.node.peers)._protocols.withdraw(protocol)
                await world.ours.connect(changing)
                await until(lambda: changing.id in world.ours.node.topics.subscribers(TOPIC))
                reply = await world.ours.post("/peer", {"node_id": changing.id})
                assert reply.json["data"]["peer_id"] == changing.id
                assert (Type.PEER_IDENTITY in asked) is not native
            await until(lambda: len(world.ours.node.peers.connections()) == 1)
