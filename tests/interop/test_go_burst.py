"""Bursts to and from Go peers, whose queues hold 32: pubsub messages, chats over the topic and over streams."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.wire.legacy.chat import encode_chat
from aicn.wire.legacy.envelope import Type
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.hosts import until
from tests.fakes.whole import Whole, open_whole
from tests.interop.gonet import CLIENT, MODEL, PROJECT, SERVER, address_of, open_public
from tests.interop.gopeer import EVENT_S, GoPeer, open_go_peer
from tests.interop.pairs import member, open_pair

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

COUNT = 1000
CHATS = 300
STREAMS = 128
TOPIC = "DeepBrainChain"
PSK = secrets.token_hex(32)


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


# ---- chats ----


@dataclass
class World:
    """A worker of ours and a Go worker, both members of the topic; the Go one keeps its library's limits."""

    ours: Whole
    go: GoPeer
    endpoint: FakeEndpoint

    async def ask(self, failed: Counter[str], **body: Any) -> None:
        """A chat of our API's client with the Go worker; what goes wrong is counted."""
        messages = [{"role": "user", "content": "Say hello."}]
        asked = {"node_id": self.go.id, "project": PROJECT, "model": MODEL, "messages": messages, **body}
        reply = await self.ours.post("/chat/completion", asked)
        if reply.status != 200 or self.endpoint.text.split()[-1].encode() not in reply.body:
            failed[f"{reply.status} {reply.body[:200]!r}"] += 1


@asynccontextmanager
async def open_world(directory: Path, program: Path, *flags: str, through_public: bool = False) -> AsyncIterator[World]:
    """`through_public`: the two are connected to a public node of ours, and not to each other."""
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_fake_endpoint())
        ours = await stack.enter_async_context(open_whole(directory / "ours", psk=PSK))
        go = await stack.enter_async_context(open_go_peer(program, *flags, "-psk", PSK))
        hub = ours
        if through_public:
            hub = await stack.enter_async_context(open_public(directory / "public", psk=PSK))
            await ours.connect(hub)
            await until(lambda: ours.id in hub.node.topics.subscribers(TOPIC), seconds=EVENT_S)
        await go("connect", address=address_of(hub))
        await go.until(lambda peers: hub.id in peers, "topic-peers")
        await until(lambda: go.id in hub.node.topics.subscribers(TOPIC), seconds=EVENT_S)
        await go("register", project=PROJECT, model=MODEL, url=endpoint.url)
        await ours.register({"model": MODEL, "api": endpoint.url, "type": 0}, project=PROJECT)
        yield World(ours, go, endpoint)


@pytest.mark.parametrize("through_public", [False, True], ids=["neighbours", "through a public node"])
@pytest.mark.parametrize("flags", [CLIENT, SERVER], ids=["gossipsub", "floodsub"])
async def test_three_hundred_chats_at_once_over_the_topic(
    tmp_path: Path, go_program: Path, flags: tuple[str, ...], through_public: bool
) -> None:
    async with open_world(tmp_path, go_program, *flags, through_public=through_public) as world:
        world.endpoint.first_s = 0.05  # so that many are at work at once
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}).encode()
        question = encode_chat(PROJECT, MODEL, body)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            await world.ours.node.legacy.conversation.ask(
                PeerId(world.go.id), Type.CHAT_COMPLETION, question, within_s=30
            )
            answered += 1

        async with trio.open_nursery() as nursery:
            for _ in range(CHATS):
                nursery.start_soon(ask)
        assert answered == CHATS
        load = {"project": PROJECT, "model": MODEL, "text": "hello", "count": CHATS, "clients": CHATS, "pause_ms": 1}
        told = await world.go("load", peer=world.ours.id, **load)
        assert (told["failed"], len(told["times_ms"])) == ({}, CHATS)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_chats_of_many_clients_with_a_go_worker(tmp_path: Path, go_program: Path, stream: bool) -> None:
    """More than it takes streams at a time: the others wait for their turn."""
    async with open_world(tmp_path, go_program, *SERVER) as world:
        failed: Counter[str] = Counter()
        async with trio.open_nursery() as nursery:
            for _ in range(STREAMS if stream else CHATS):
                nursery.start_soon(partial(world.ask, failed, stream=stream))
        assert not failed


async def test_streams_of_many_go_clients(tmp_path: Path, go_program: Path) -> None:
    async with open_world(tmp_path, go_program, *CLIENT) as world:
        load = {
            "project": PROJECT,
            "model": MODEL,
            "text": "hello",
            "count": STREAMS,
            "clients": STREAMS,
            "stream": True,
        }
        told = await world.go("load", peer=world.ours.id, **load)
        assert (told["failed"], len(told["times_ms"])) == ({}, STREAMS)
