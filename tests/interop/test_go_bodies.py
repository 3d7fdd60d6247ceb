"""What we write Go reads as it was meant, and the other way round: bodies of messages with texts of all scripts, in both directions."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from aicn.domain.ids import PeerId
from aicn.wire.legacy import bodies, chat
from aicn.wire.legacy.envelope import Type
from tests.fakes.endpoint import Connection, open_scripted, response
from tests.fakes.hosts import until
from tests.fakes.whole import Whole, open_whole
from tests.interop.gonet import MODEL, PROJECT
from tests.interop.gopeer import EVENT_S, GoPeer, open_go_peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

TOPIC = "DeepBrainChain"
CHATS = 100  # each way
AT_ONCE = 8
CREATED = 1_700_000_000


@dataclass
class World:
    """Our node and a Go node, each with a model that repeats what it is told."""

    ours: Whole
    go: GoPeer


async def repeat(connection: Connection) -> None:
    """An endpoint's answer is the last message, and the usage its length."""
    while (request := await connection.receive_request()) is not None:
        text = json.loads(request.body)["messages"][-1]["content"]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        said = {"created": CREATED, "choices": [choice], "usage": {"total_tokens": len(text)}}
        await connection.send(response(200, json.dumps(said).encode()))


@pytest.fixture
async def world(tmp_path: Path, go_program: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_scripted(repeat))
        go = await stack.enter_async_context(
            open_go_peer(go_program, "-legacy", "-dht", "server", "-pubsub", "floodsub")
        )
        ours = await stack.enter_async_context(open_whole(tmp_path, p2p={"pubsub_router": "floodsub"}))
        await ours.node.peers.connect(go.address)
        await go.until(lambda peers: ours.id in peers, "topic-peers")
        await until(lambda: go.id in ours.node.topics.subscribers(TOPIC), seconds=EVENT_S)
        await go("register", project=PROJECT, model=MODEL, url=endpoint.url())
        assert (await ours.register({"model": MODEL, "api": endpoint.url(), "type": 0}, project=PROJECT)).status == 200
        yield World(ours, go)


def some_text(chance: random.Random) -> str:
    """Of any length, mostly of one script; JSON and bodies among them, which must not be taken for anything else."""
    if chance.random() < 0.2:
        return chance.choice(
            [
                '"quoted"',
                "[]",
                '{"a": 1}',
                "",
                "\0",
                "\n\x05model",
                '[{"type": "text", "text": "x"}]',
                "\r\n",
                "\ufeff",
                "\ufffd",
            ]
        )
    start = chance.choice([0, 0, 0x80, 0x400, 0x4E00, 0xE000, 0x1F300, sys.maxunicode - 300])
    return "".join(chr(start + chance.randrange(300)) for _ in range(chance.choice([1, 20, 300, 2000])))


async def each_of(texts: list[str], run: Callable[[str], Awaitable[None]]) -> None:
    """`run` with each text, some at once."""
    places = trio.CapacityLimiter(AT_ONCE)

    async def one(text: str) -> None:
        async with places:
            await run(text)

    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(one, text)


async def test_chats_both_ways(world: World) -> None:
    chance = random.Random(6)

    async def theirs(text: str) -> None:
        answer = await world.go("chat", peer=world.ours.id, project=PROJECT, model=MODEL, text=text)
        said = {"code": 0, "message": "", "texts": [text], "created": CREATED, "total_tokens": len(text)}
        assert answer == said

    async def ours(text: str) -> None:
        question = chat.encode_chat(
            PROJECT, MODEL, json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        )
        conversation = world.ours.node.legacy.conversation
        plain = await conversation.ask(PeerId(world.go.id), Type.CHAT_COMPLETION, question, within_s=EVENT_S)
        body, finish_reason, usage = chat.decode_chat_answer(plain)
        assert json.loads(body)["choices"][0]["message"] == {"role": "assistant", "content": text}
        assert (finish_reason, usage.total_tokens) == ("stop", len(text))

    await each_of([some_text(chance) for _ in range(CHATS)], theirs)
    await each_of([some_text(chance) for _ in range(CHATS)], ours)


async def test_projects_both_ways(world: World) -> None:
    offered = {"Grüße 你好": ["a/b:c", "модель"], "🤖": ["x" * 128], "a - b": ["m"]}
    for project, models in offered.items():
        for model in models:
            await world.go("register", project=project, model=model, url="http://127.0.0.1:1/")
        await world.ours.register(
            *({"model": m, "api": "http://127.0.0.1:1/", "type": 0} for m in models), project=project
        )
    everything = {PROJECT: {MODEL}} | {project: set(models) for project, models in offered.items()}
    theirs = await world.go("projects", peer=world.ours.id)
    assert {project: set(models) for project, models in theirs["projects"].items()} == everything
    conversation = world.ours.node.legacy.conversation
    plain = await conversation.ask(PeerId(world.go.id), Type.AI_PROJECT, bodies.EMPTY_QUESTION, within_s=EVENT_S)
    assert {one.name: set(one.models) for one in bodies.decode_projects(plain)[0]} == everything


async def test_hosts_both_ways(world: World) -> None:
    ours = await world.ours.node.nodes.shared_host_info()
    theirs = await world.go("host-info", peer=world.ours.id)
    assert theirs["code"] == 0
    assert theirs["os"] == ours.os.os
    conversation = world.ours.node.legacy.conversation
    plain = await conversation.ask(PeerId(world.go.id), Type.HOST_INFO, bodies.EMPTY_QUESTION, within_s=EVENT_S)
    host = bodies.decode_host(plain)
    assert (host.os.platform, host.memory.total_physical_bytes, host.gpu[0].product) == ("debian", 24 << 30, "Go GPU")
    assert (host.cpu[0].total_threads, host.disk[0].size_bytes) == (8, 1 << 38)
