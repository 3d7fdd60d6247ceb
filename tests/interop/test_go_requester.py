"""Our node asks Go nodes with the habits of the existing network's: every call works as to a native one, every failure is told soon."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.domain.ids import PeerId
from tests.fakes.endpoint import FakeEndpoint, answers, open_fake_endpoint, open_scripted, response
from tests.fakes.hosts import until
from tests.fakes.http import Client
from tests.fakes.whole import Whole, open_whole
from tests.interop.gonet import MODEL, PROJECT, text_in
from tests.interop.gopeer import EVENT_S, GoPeer, open_go_peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PSK = secrets.token_hex(32)
TOPIC = "DeepBrainChain"
HELLO = [{"role": "user", "content": "Say hello."}]
COMPLETION = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}'
IPFS = "http://122.99.183.54:4001"
MANY = 200
SOON_S = 15.0  # for a failure to be told; on an idle machine it takes 4 s at most


@dataclass
class World:
    """Our node, and a Go node with a model."""

    ours: Whole
    go: GoPeer
    endpoint: FakeEndpoint

    async def ask(self, path: str, **more: Any) -> dict[str, Any]:
        """A call about the Go node; `status` is in what it answered."""
        with trio.fail_after(SOON_S):
            reply = await self.ours.post(path, {"node_id": self.go.id, **more})
        return {"status": reply.status, **reply.json}

    async def chat(self, **more: Any) -> dict[str, Any]:
        return await self.ask("/chat/completion", **({"project": PROJECT, "model": MODEL, "messages": HELLO} | more))

    async def data(self, path: str, **more: Any) -> Any:
        answer = await self.ask(path, **more)
        assert answer["code"] == 0, answer
        return answer["data"]

    async def streamed(self, **more: Any) -> str:
        """The text of a streamed chat, which must have come to its end."""
        body = {"project": PROJECT, "model": MODEL, "messages": HELLO, "node_id": self.go.id, "stream": True, **more}
        with trio.fail_after(SOON_S):
            reply = await self.ours.post("/chat/completion", body)
        assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream"), reply
        return text_in(reply.body.decode())


@asynccontextmanager
async def open_world(directory: Path, program: Path, *, router: str, psk: str = "") -> AsyncIterator[World]:
    """Both connected, and members of the topic."""
    flags = ("-legacy", "-resource-limits", "-dht", "client", "-pubsub", router, *(("-psk", psk) if psk else ()))
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_fake_endpoint())
        go = await stack.enter_async_context(open_go_peer(program, *flags))
        ours = await stack.enter_async_context(open_whole(directory, psk=psk, p2p={"pubsub_router": router}))
        await ours.node.peers.connect(go.address)
        await go.until(lambda peers: ours.id in peers, "topic-peers")
        await until(lambda: go.id in ours.node.topics.subscribers(TOPIC), seconds=EVENT_S)
        await go("register", project=PROJECT, model=MODEL, url=endpoint.url)
        yield World(ours, go, endpoint)


@pytest.fixture(params=[("floodsub", ""), ("gossipsub", PSK)], ids=["floodsub", "gossipsub, private network"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, go_program: Path) -> AsyncIterator[World]:
    router, psk = request.param
    async with open_world(tmp_path, go_program, router=router, psk=psk) as world:
        yield world


async def test_every_call(world: World) -> None:
    info = await world.data("/peer")
    assert info["peer_id"] == world.go.id
    assert "/chat-proxy/0.0.1" in info["protocols"]
    assert info["agent_version"]  # which the node itself leaves out
    host = await world.data("/host/info")
    assert (host["os"]["platform"], host["gpu"][0]["product"]) == ("debian", "Go GPU")
    assert await world.data("/ai/project/peer") == [{"project": PROJECT, "models": [MODEL]}]

    said = (await world.chat(temperature=0.25))["data"]
    assert said["choices"][0]["message"]["content"] == world.endpoint.text
    assert said["usage"]["total_tokens"] > 0
    assert json.loads(world.endpoint.bodies[-1])["temperature"] == 0.25
    assert await world.streamed(seed=7) == world.endpoint.text
    assert json.loads(world.endpoint.bodies[-1])["seed"] == 7

    drawn = await world.data("/image/gen", project=PROJECT, model=MODEL, prompt="a cat", n=2, ipfs_node=IPFS)
    assert drawn["ipfs_node"] == IPFS
    assert len(drawn["choices"]) == 2


async def test_by_project(world: World) -> None:
    body = {"project": PROJECT, "model": MODEL, "messages": HELLO}
    with trio.fail_after(EVENT_S):  # its heartbeat may have come before we knew it as a member
        while (reply := await world.ours.post("/chat/completion/proxy", body)).status != 200:
            await world.go("heartbeat")
    assert reply.json["data"]["choices"][0]["message"]["content"] == world.endpoint.text
    reply = await world.ours.post("/chat/completion/proxy", {**body, "stream": True})
    assert text_in(reply.body.decode()) == world.endpoint.text
    drawn = {"project": PROJECT, "model": MODEL, "prompt": "a cat", "ipfs_node": IPFS}
    assert len((await world.ours.post("/image/gen/proxy", drawn)).json["data"]["choices"]) == 1


async def test_refusals(world: World) -> None:
    assert [
        (one["status"], one["code"]) for one in (await world.chat(model="X"), await world.chat(model="X", stream=True))
    ] == [
        (502, 1006),
        (502, 1017),
    ]
    image = {"project": PROJECT, "model": MODEL, "prompt": "a cat"}
    for path, more, code in (
        ("/image/gen", image, 1006),  # it has no IPFS node
        ("/image/gen", image | {"model": "X", "ipfs_node": IPFS}, 1006),
        ("/image/gen", image | {"response_format": "b64_json"}, 1010),
        ("/image/edit", image | {"image": "http://127.0.0.1/cat.png"}, 1010),
        ("/embedding", {"project": PROJECT, "model": MODEL, "input": "x"}, 1010),
    ):
        answer = await world.ask(path, **more)
        assert answer["code"] == code, answer
        assert "data" not in answer
    await world.go("register", project=PROJECT, model="dead", url="http://127.0.0.1:9/v1/chat/completions")
    assert (await world.chat(model="dead"))["code"] == 1006
    assert (await world.chat(model="dead", stream=True))["code"] == 1017


async def test_many_at_once_over_the_topic(world: World) -> None:
    """A message over the 32 that its queue holds would be lost, and cost two minutes."""
    drawn: list[int] = []

    async def draw() -> None:
        answer = await world.data("/image/gen", project=PROJECT, model=MODEL, prompt="a cat", ipfs_node=IPFS)
        drawn.append(len(answer["choices"]))

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(draw)
    assert drawn == [1] * MANY


async def test_the_callers_headers_go_nowhere(world: World) -> None:
    secrets_of_his = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Mine": "secret"}
    async with open_scripted(answers(response(200, COMPLETION))) as endpoint:
        await world.go("register", project=PROJECT, model="H", url=endpoint.url())
        body = {"node_id": world.go.id, "project": PROJECT, "model": "H", "messages": HELLO}
        assert (await world.ours.post("/chat/completion", body, secrets_of_his)).status == 200
        (received,) = endpoint.requests
    assert not {"authorization", "cookie", "x-mine"} & set(received.headers)
    assert b"secret" not in received.body


Call = Callable[[World], Awaitable[dict[str, Any]]]


async def plain_chat(world: World) -> dict[str, Any]:
    return await world.chat()


async def question(world: World) -> dict[str, Any]:
    return await world.ask("/peer")


@pytest.mark.parametrize(("call", "code"), [(plain_chat, 1006), (question, 1004)])
async def test_a_node_that_dies_while_it_is_asked(tmp_path: Path, go_program: Path, call: Call, code: int) -> None:
    async with open_world(tmp_path, go_program, router="floodsub") as world:
        world.endpoint.first_s = 60
        told: list[dict[str, Any]] = []

        async def ask() -> None:
            told.append(await call(world))

        async with trio.open_nursery() as nursery:
            if call is question:
                world.go.freeze()  # it has no time to answer
            nursery.start_soon(ask)
            if call is plain_chat:
                await until(lambda: world.endpoint.bodies, seconds=EVENT_S)
            else:
                await trio.sleep(0.5)
            world.go.kill()
        assert told[0]["code"] == code, told
        assert "data" not in told[0]


async def test_a_node_that_dies_in_the_middle_of_a_stream(tmp_path: Path, go_program: Path) -> None:
    async with open_world(tmp_path, go_program, router="floodsub") as world:
        world.endpoint.tokens, world.endpoint.delay_s = 1000, 0.05
        body = {
            "node_id": world.go.id,
            "project": PROJECT,
            "model": MODEL,
            "messages": HELLO,
            "stream": True,
        }
        client = await Client.connect(world.ours.address)
        try:
            await client.ask("POST", "/api/v0/chat/completion", json.dumps(body).encode())
            with trio.fail_after(SOON_S):
                assert (await client.head()).status == 200
                said = await client.piece()
                world.go.kill()
                while piece := await client.piece():
                    said += piece
        finally:
            await client.aclose()
        assert b"tok0" in said
        assert b"[DONE]" not in said
        assert b"event: error" in said
        assert b"1017" in said
        catalog = world.ours.node.directory.catalog
        await until(
            lambda: catalog.offer(PeerId(world.go.id)) is None, seconds=EVENT_S
        )  # it is not even heard of any more
        began = trio.current_time()
        assert (await world.ask("/peer"))["code"] in (1004, 1005)
        assert trio.current_time() - began < 5


@asynccontextmanager
async def open_distant(directory: Path, program: Path, router: str, *of_middle: str) -> AsyncIterator[World]:
    """Our node and a Go node that listens nowhere, both connected to another Go node only."""
    flags = ("-legacy", "-dht", "client", "-pubsub")
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_fake_endpoint())
        middle = await stack.enter_async_context(open_go_peer(program, *flags, router, *of_middle))
        go = await stack.enter_async_context(open_go_peer(program, *flags, router, "-listen", ""))
        ours = await stack.enter_async_context(open_whole(directory, p2p={"pubsub_router": router}))
        await ours.node.peers.connect(middle.address)
        await go("connect", address=middle.address)
        await middle.until(lambda peers: {ours.id, go.id} <= set(peers), "topic-peers")
        if of_middle:
            await go("reserve", address=middle.address)
            await ours.node.peers.connect(f"{middle.address}/p2p-circuit/p2p/{go.id}")
        yield World(ours, go, endpoint)


@pytest.mark.parametrize("router", ["floodsub", "gossipsub"])
async def test_a_node_that_only_the_topic_reaches(tmp_path: Path, go_program: Path, router: str) -> None:
    async with open_distant(tmp_path, go_program, router) as world:
        answer = await world.ask("/peer")
        assert (answer["status"], answer["code"]) == (404, 1005)  # at once
        with trio.fail_after(EVENT_S):
            while (answer := await world.ask("/peer"))["code"] == 1005:
                await world.go("register", project=PROJECT, model=MODEL, url=world.endpoint.url)
        assert answer["data"]["peer_id"] == world.go.id
        assert await world.data("/ai/project/peer") == [{"project": PROJECT, "models": [MODEL]}]
        assert (await world.data("/host/info"))["os"]["platform"] == "debian"
        said = (await world.chat())["data"]
        assert said["choices"][0]["message"]["content"] == world.endpoint.text
        assert await world.streamed() == world.endpoint.text
        assert (await world.chat(tools=[{"type": "function"}]))["code"] == 1010
        assert (await world.chat(model="X"))["code"] == 1006
        drawn = await world.data("/image/gen", project=PROJECT, model=MODEL, prompt="a cat", ipfs_node=IPFS)
        assert len(drawn["choices"]) == 1


async def test_a_node_behind_a_relay_that_limits_connections(tmp_path: Path, go_program: Path) -> None:
    """Its streams for chats do not pass there; the topic does."""
    async with open_distant(tmp_path, go_program, "floodsub", "-relay", "limited") as world:
        await world.go("register", project=PROJECT, model=MODEL, url=world.endpoint.url)
        assert (await world.data("/peer"))["peer_id"] == world.go.id
        said = (await world.chat())["data"]
        assert said["choices"][0]["message"]["content"] == world.endpoint.text
        assert await world.streamed() == world.endpoint.text
