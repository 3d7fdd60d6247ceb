"""Messages that end nodes of the existing network, published by a hostile host with only our node between it and a Go node.

Each is sent twice: through a host that hands everything on the Go node dies, which proves the message; through our node it lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from aicn.p2p.host import Host
from aicn.p2p.identity import generate_key, parse_key
from aicn.p2p.keyring import Keyring
from aicn.p2p.pubsub.subscription import Subscription
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.pb import legacy_pb2 as pb
from tests.fakes.hosts import CONFIG, PEER_OF_NOBODY, full_address, open_test_host, until
from tests.fakes.whole import open_whole
from tests.interop.gonet import MODEL, PROJECT
from tests.interop.gopeer import EVENT_S, GoError, GoPeer, open_go_peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

TOPIC = CONFIG.topic
LATE_S = 1.0  # what has not come by then was dropped: messages take milliseconds


@dataclass
class Chain:
    """hostile – the node between – Go."""

    hostile: Host
    keys: Keyring
    heard: Subscription  # of the hostile host
    go: GoPeer

    async def say(self, kind: int, body: bytes, **fields: object) -> None:
        about = {"sender": self.hostile.id, "receiver": self.go.id, "id": "an id"} | fields
        await self.publish(encode(Envelope(kind, body=body, **about)))

    async def publish(self, data: bytes) -> None:
        await self.hostile.topics.publish(TOPIC, data)

    async def next(self, kind: Type) -> Envelope:
        """The next message of Go to the hostile host of that kind."""
        with trio.fail_after(EVENT_S):
            while True:
                said = decode((await self.heard.receive()).data)
                if (said.sender, said.receiver, said.type) == (self.go.id, self.hostile.id, kind):
                    return said

    async def expect_served(self) -> None:
        """An honest question has its answer."""
        await self.say(Type.AI_PROJECT, bodies.EMPTY_QUESTION)
        said = await self.next(Type.AI_PROJECT)
        plain = sealing.unseal(self.keys.shared_with(said.key), said.body)
        projects, _ = bodies.decode_projects(plain)
        assert [one.name for one in projects] == [PROJECT]


@asynccontextmanager
async def open_chain(folder: Path, program: Path, router: str, *, ours: bool) -> AsyncIterator[Chain]:
    """With our node in between, or a host without a validator."""
    key = parse_key(generate_key())
    async with AsyncExitStack() as stack:
        go = await stack.enter_async_context(open_go_peer(program, "-legacy", "-dht", "client", "-pubsub", router))
        hostile = await stack.enter_async_context(open_test_host(key=key, dht_mode="none", pubsub_router=router))
        if ours:
            whole = await stack.enter_async_context(open_whole(folder, p2p={"pubsub_router": router}))
            between = whole.node.peers
            assert isinstance(between, Host)
        else:
            between = await stack.enter_async_context(open_test_host(dht_mode="none", pubsub_router=router))
        await between.connect(go.address)
        await hostile.connect(full_address(between))
        await go.until(lambda peers: between.id in peers, "topic-peers")
        await until(lambda: {go.id, hostile.id} <= set(between.topics.subscribers(TOPIC)), seconds=EVENT_S)
        await until(lambda: hostile.topics.subscribers(TOPIC), seconds=EVENT_S)
        await go("register", project=PROJECT, model=MODEL, url="http://127.0.0.1:1/")
        with hostile.topics.subscribe(TOPIC) as heard:
            yield Chain(hostile, Keyring(key), heard, go)


# ---- what kills ----


async def nothing(chain: Chain) -> None:
    await chain.publish(b"")


async def no_header(chain: Chain) -> None:
    await chain.publish(pb.Message(type=Type.AI_PROJECT, body=bodies.EMPTY_QUESTION).SerializeToString())


async def chat_without_wallet(chain: Chain) -> None:
    asked = pb.ChatCompletionRequest(project=PROJECT, model=MODEL)
    await chain.say(Type.CHAT_COMPLETION, pb.ChatCompletionBody(req=asked).SerializeToString())


async def images_without_wallet(chain: Chain) -> None:
    asked = pb.ImageGenerationRequest(project=PROJECT, model=MODEL, ipfs_node="http://127.0.0.1:1")
    await chain.say(Type.IMAGE_GENERATION, pb.ImageGenerationBody(req=asked).SerializeToString())


async def host_info_without_parts(chain: Chain) -> None:
    await _answer(chain, "host-info", Type.HOST_INFO, pb.HostInfoBody(res=pb.HostInfoResponse()).SerializeToString())


async def chat_answer_without_usage(chain: Chain) -> None:
    body = pb.ChatCompletionBody(res=pb.ChatCompletionResponse(created=1)).SerializeToString()
    await _answer(chain, "chat", Type.CHAT_COMPLETION, body)


async def _answer(chain: Chain, command: str, kind: Type, body: bytes) -> None:
    """Go asks the hostile host and is answered with `body`; returns when it has given up, or died."""
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(GoError):
                await chain.go(command, peer=chain.hostile.id, project=PROJECT, model=MODEL, text="-", timeout_s=LATE_S)
            nursery.cancel_scope.cancel()

        async def die() -> None:
            await chain.go.ended()
            nursery.cancel_scope.cancel()

        nursery.start_soon(ask)
        nursery.start_soon(die)
        asked = await chain.next(kind)
        await chain.say(kind, body, id=asked.id)


KILLERS = [
    nothing,
    no_header,
    chat_without_wallet,
    images_without_wallet,
    host_info_without_parts,
    chat_answer_without_usage,
]


@pytest.mark.parametrize("router", ["floodsub", "gossipsub"])
async def test_behind_us_go_lives_and_is_served(tmp_path: Path, go_program: Path, router: str) -> None:
    async with open_chain(tmp_path, go_program, router, ours=True) as chain:
        await chain.expect_served()
        for kill in KILLERS:
            await kill(chain)
            await chain.expect_served()
        await chain.say(
            Type.AI_PROJECT, bodies.encode_projects([]), sender=PEER_OF_NOBODY, receiver=None, id="", text="heartbeat"
        )
        await chain.expect_served()
        assert PEER_OF_NOBODY not in await chain.go("directory"), "in the name of another node"


@pytest.mark.parametrize("kill", KILLERS, ids=lambda kill: kill.__name__)
async def test_behind_a_node_that_does_not_look_go_dies(tmp_path: Path, go_program: Path, kill: object) -> None:
    assert callable(kill)
    async with open_chain(tmp_path, go_program, "gossipsub", ours=False) as chain:
        await chain.expect_served()
        await kill(chain)
        await chain.go.ended()


async def test_behind_a_node_that_does_not_look_go_believes_anybody(tmp_path: Path, go_program: Path) -> None:
    async with open_chain(tmp_path, go_program, "gossipsub", ours=False) as chain:
        await chain.say(
            Type.AI_PROJECT, bodies.encode_projects([]), sender=PEER_OF_NOBODY, receiver=None, id="", text="heartbeat"
        )
        await chain.go.until(lambda heard: PEER_OF_NOBODY in heard, "directory")
