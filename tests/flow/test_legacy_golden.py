"""Captured questions of Go nodes, put to a whole node that has the receiver's key: its answers are what a Go node expects.

`asker` is the Go node's identity, as a bare member of the topic.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.domain.nodes import Message
from aicn.p2p.host import Host
from aicn.p2p.identity import parse_key
from aicn.p2p.keyring import Keyring
from aicn.p2p.pubsub.subscription import Subscription
from aicn.wire.legacy import bodies, sealing
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.pb import legacy_pb2 as pb
from tests.fakes.endpoint import FakeEndpoint, answers, open_fake_endpoint, open_scripted, response
from tests.fakes.hosts import open_test_host, until
from tests.fakes.kubo import running_kubo
from tests.fakes.whole import Whole, open_whole

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "legacy" / "messages.json").read_text())
RECEIVER = VECTORS["receiver_of_all_addressed_messages"]
ASKER = VECTORS["senders"]["inp"]
QUESTIONS = {one["label"]: one for one in VECTORS["messages"] if one["label"].startswith("request ")}
ANSWERS = {one["label"]: one for one in VECTORS["messages"] if one["label"].startswith("response ")}
WITHIN_S = 20


@dataclass
class World:
    """The node, the asker, and what it hears."""

    node: Whole
    asker: Host
    keys: Keyring
    heard: Subscription
    endpoint: FakeEndpoint
    answers: list[Envelope] = field(default_factory=list)

    async def ask(self, data: bytes) -> tuple[Envelope, bytes]:
        """The answer to a question, and its plain body."""
        asked = decode(data)
        await self.asker.topics.publish(self.heard.topic, data)
        with trio.fail_after(WITHIN_S):
            while True:
                message: Message = await self.heard.receive()
                said = decode(message.data)
                if said.id == asked.id:
                    break
        assert (said.sender, said.receiver, said.type) == (self.node.id, self.asker.id, asked.type)
        assert message.sender == self.node.id
        body = sealing.unseal(self.keys.shared_with(said.key), said.body) if said.key else said.body
        return said, body

    async def ask_captured(self, label: str) -> tuple[Envelope, bytes]:
        return await self.ask(bytes.fromhex(QUESTIONS[label]["message_hex"]))

    async def ask_now(self, kind: int, body: bytes) -> tuple[Envelope, bytes]:
        """A question as Go nodes write it, which was not captured."""
        key = self.keys.public_key_of(self.node.id)
        assert key is not None
        sealed = sealing.seal(self.keys.shared_with(key), body)
        return await self.ask(
            encode(Envelope(kind, self.asker.id, self.node.id, "a uuid", body=sealed, key=self.keys.public))
        )


@asynccontextmanager
async def open_world(folder: Path, **sections: Any) -> AsyncIterator[World]:
    (folder / "peer.key").touch(0o600)
    (folder / "peer.key").write_text(RECEIVER["private_key_base64"])
    key = parse_key(ASKER["private_key_base64"])
    async with (
        open_fake_endpoint() as endpoint,
        open_whole(folder, **sections) as node,
        open_test_host(key=key, dht_mode="none") as asker,
    ):
        assert (node.id, asker.id) == (RECEIVER["peer_id"], ASKER["peer_id"])
        topic = node.node.config.p2p.topic
        await asker.connect(f"{node.node.peers.info().addresses[0]}/p2p/{node.id}")
        await until(lambda: asker.topics.subscribers(topic) and node.node.topics.subscribers(topic))
        with asker.topics.subscribe(topic) as heard:
            yield World(node, asker, Keyring(key), heard, endpoint)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def same_form(label: str, said: Envelope) -> None:
    """Result and text are the captured ones."""
    expected = ANSWERS[label]
    assert (said.code, said.text) == (expected["result_code"], expected["result_message"])
    assert bool(said.key) == bool(expected["header"]["node_pub_key_hex"])
    assert bool(said.body) == bool(expected["body_hex"])
    assert said.client_version == expected["header"]["client_version"]


async def test_identity(world: World) -> None:
    said, body = await world.ask_captured("request PEER_IDENTITY")
    same_form("response PEER_IDENTITY", said)
    info = world.node.node.peers.info()
    told = bodies.answer(Type.PEER_IDENTITY, body)
    assert list(told.listen_addrs) == list(info.addresses)
    assert list(told.protocols) == list(info.protocols)
    assert told.protocol_version == "aicn/0.0.1"


async def test_host_info(world: World) -> None:
    said, body = await world.ask_captured("request HOST_INFO")
    same_form("response HOST_INFO", said)
    told = bodies.answer(Type.HOST_INFO, body)
    assert told.HasField("os")
    assert told.HasField("memory")
    assert told.os.os == "linux"
    assert told.memory.total_physical_bytes > 0
    assert len(told.cpu) > 0


async def test_host_info_that_is_kept(tmp_path: Path) -> None:
    async with open_world(tmp_path, hardware={"share": False}) as world:
        said, _ = await world.ask_captured("request HOST_INFO")
    assert (said.code, said.body, said.key) == (1010, b"", b"")
    assert "hardware.share" in said.text


async def test_projects_byte_for_byte(world: World) -> None:
    said, body = await world.ask_captured("request AI_PROJECT")
    assert body == bodies.EMPTY_ANSWER
    await world.node.register({"model": "M", "api": world.endpoint.url, "type": 0})
    (said, body) = await world.ask(
        encode(Envelope(Type.AI_PROJECT, world.asker.id, world.node.id, "plain", body=bodies.EMPTY_QUESTION))
    )
    same_form("response AI_PROJECT", said)
    assert body.hex() == "12080a060a015012014d"  # the first project of the captured answer


ENDPOINT_ANSWER = {
    "created": 5,
    "choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "length"}],
}


async def test_chat_byte_for_byte(world: World) -> None:
    async with open_scripted(answers(response(200, json.dumps(ENDPOINT_ANSWER).encode()))) as scripted:
        await world.node.register({"model": "M", "api": scripted.url(), "type": 0})
        said, body = await world.ask_captured("request CHAT_COMPLETION")
        [asked] = [json.loads(one.body) for one in scripted.requests]
    expected = ANSWERS["response CHAT_COMPLETION"]
    same_form("response CHAT_COMPLETION", said)
    assert said.timestamp == expected["header"]["timestamp"] == 5
    assert body.hex() == expected["plain_body_hex"]
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Grüß Gott, 你好"},
    ]
    assert (asked["model"], asked["stream"]) == ("M", False)


@pytest.mark.parametrize("label", [label for label in QUESTIONS if "CHAT" in label])
async def test_a_model_that_is_not_registered(world: World, label: str) -> None:
    said, body = await world.ask_captured(label)
    expected = ANSWERS["response CHAT_COMPLETION, model not registered (1006)"]
    same_form("response CHAT_COMPLETION, model not registered (1006)", said)
    assert (said.timestamp, body.hex()) == (expected["header"]["timestamp"], expected["plain_body_hex"])


async def test_a_model_that_fails(world: World) -> None:
    async with open_scripted(answers(response(503, b'{"error":{"message":"no GPU"}}'))) as scripted:
        await world.node.register({"model": "M", "api": scripted.url(), "type": 0})
        said, body = await world.ask_captured("request CHAT_COMPLETION")
    assert (said.code, body) == (1006, bodies.EMPTY_ANSWER)
    assert "no GPU" in said.text


async def test_a_proof_that_is_none(tmp_path: Path) -> None:
    async with open_world(tmp_path, wallet={"required": True}) as world:
        await world.node.register({"model": "M", "api": world.endpoint.url, "type": 0})
        for label in ("request CHAT_COMPLETION", "request CHAT_COMPLETION, no wallet given"):
            said, body = await world.ask_captured(label)
            assert (said.code, body) == (1009, bodies.EMPTY_ANSWER)


async def test_images(tmp_path: Path) -> None:
    with running_kubo() as api:
        async with open_world(tmp_path, ipfs={"api": api}) as world:
            await world.node.register({"model": "M", "api": world.endpoint.images_url, "type": 1})
            asked = pb.ImageGenerationRequest(project="P", model="M", prompt="a bird", number=2, wallet=pb.Wallet())
            body = pb.ImageGenerationBody(req=asked).SerializeToString()
            said, body = await world.ask_now(Type.IMAGE_GENERATION, body)
    assert (said.code, said.text) == (0, "ok")
    answer = bodies.answer(Type.IMAGE_GENERATION, body)
    assert answer.ipfs_node == api
    assert [bool(one.cid) and one.image_name.endswith(".png") for one in answer.choices] == [True] * 2


async def test_images_without_an_ipfs_node(world: World) -> None:
    await world.node.register({"model": "M", "api": world.endpoint.images_url, "type": 1})
    asked = pb.ImageGenerationRequest(project="P", model="M", prompt="a bird", number=1, wallet=pb.Wallet())
    said, body = await world.ask_now(Type.IMAGE_GENERATION, pb.ImageGenerationBody(req=asked).SerializeToString())
    same_form("response IMAGE_GENERATION, no IPFS node (1006)", said)
    assert body == bodies.EMPTY_ANSWER


async def test_images_for_an_ipfs_node_that_is_not_allowed(world: World) -> None:
    await world.node.register({"model": "M", "api": world.endpoint.images_url, "type": 1})
    said, body = await world.ask_captured("request IMAGE_GENERATION")
    assert (said.code, body) == (1007, bodies.EMPTY_ANSWER)
    assert "ipfs_node" in said.text


async def test_images_for_an_ipfs_node_that_is_down(tmp_path: Path) -> None:
    async with open_world(tmp_path, ipfs={"api": "http://127.0.0.1:1"}) as world:
        await world.node.register({"model": "M", "api": world.endpoint.images_url, "type": 1})
        asked = pb.ImageGenerationRequest(project="P", model="M", prompt="a bird", number=1, wallet=pb.Wallet())
        body = pb.ImageGenerationBody(req=asked).SerializeToString()
        said, _ = await world.ask_now(Type.IMAGE_GENERATION, body)
    assert (said.code, said.text) == (1006, "Unavailable ipfs storage node")


async def test_refusals_byte_for_byte(world: World) -> None:
    unknown, _ = await world.ask(encode(Envelope(9, world.asker.id, world.node.id, "unknown", body=b"\x0a\x00")))
    same_form("response to an unknown type (1010)", unknown)
    broken = decode(bytes.fromhex(QUESTIONS["request PEER_IDENTITY"]["message_hex"]))
    damaged = broken.body[:-1] + bytes([broken.body[-1] ^ 1])
    said, _ = await world.ask(
        encode(Envelope(0, world.asker.id, world.node.id, "damaged", body=damaged, key=broken.key))
    )
    same_form("response to an undecryptable body (1013)", said)


async def test_a_node_that_is_no_member_says_nothing_and_hands_on(tmp_path: Path) -> None:
    async with open_world(tmp_path, legacy={"enabled": False}) as world, open_test_host(dht_mode="none") as other:
        topic = world.heard.topic
        await other.connect(f"{world.node.node.peers.info().addresses[0]}/p2p/{world.node.id}")
        await until(lambda: len(world.node.node.topics.subscribers(topic)) == 2)
        with other.topics.subscribe(topic) as heard:
            question = bytes.fromhex(QUESTIONS["request PEER_IDENTITY"]["message_hex"])
            for data in (question, b"", question[:50] + b"not"):
                await world.asker.topics.publish(topic, data)
            await other.topics.publish(
                topic, encode(Envelope(0, other.id, world.node.id, "1", body=bodies.EMPTY_QUESTION))
            )
            with trio.fail_after(WITHIN_S):
                assert (await heard.receive()).data == question
                assert decode((await world.heard.receive()).data).sender == other.id
            with trio.move_on_after(0.5):
                pytest.fail(f"somebody said {(await heard.receive()).data!r}")
