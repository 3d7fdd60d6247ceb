"""Our public node is all that a network of Go clients needs: bootstrap, DHT server, member of the topic, relay."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from aicn.wire.pb import legacy_pb2 as pb
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.hosts import open_test_host, until
from tests.fakes.whole import Whole
from tests.interop.gonet import MODEL, PROJECT, address_of, chat, open_go_client, open_public, proxy_chat
from tests.interop.gopeer import GoError, GoPeer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

TOPIC = "DeepBrainChain"
PSK = secrets.token_hex(32)
SOON_S = 30  # until what happens by itself is seen, on a loaded machine


@dataclass
class Network:
    """Our public node, two Go clients that know only it, and the endpoint of the second one's model."""

    public: Whole
    asking: GoPeer
    worker: GoPeer
    endpoint: FakeEndpoint


@asynccontextmanager
async def open_network(
    directory: Path, program: Path, *worker_flags: str, before: int = 0, **p2p: object
) -> AsyncIterator[Network]:
    """`before`: how many of our hosts are members before the Go clients come."""
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(open_fake_endpoint())
        public = await stack.enter_async_context(open_public(directory, psk=PSK, **p2p))
        bootstrap = address_of(public)
        for _ in range(before):
            host = await stack.enter_async_context(open_test_host(psk=PSK))
            await host.connect(bootstrap)
        await until(lambda: len(public.node.topics.subscribers(TOPIC)) == before, seconds=SOON_S)
        asking = await stack.enter_async_context(open_go_client(program, bootstrap, psk=PSK))
        worker = await stack.enter_async_context(open_go_client(program, bootstrap, *worker_flags, psk=PSK))
        for go in (asking, worker):
            await go.until(lambda peers: public.id in peers, "topic-peers")
            await go.until(lambda table: public.id in table, "routing-table")
        members = {asking.id, worker.id}
        await until(lambda: members <= set(public.node.topics.subscribers(TOPIC)), seconds=SOON_S)
        await worker("register", project=PROJECT, model=MODEL, url=endpoint.url)
        yield Network(public, asking, worker, endpoint)


async def expect_chats(network: Network, worker: str) -> None:
    said = await chat(network.asking, worker)
    assert (said["code"], said["texts"]) == (0, [network.endpoint.text])
    assert await proxy_chat(network.asking, worker) == (200, network.endpoint.text)


@pytest.mark.parametrize("router", ["gossipsub", "floodsub"])
async def test_go_clients_that_know_only_us_find_and_ask_each_other(
    tmp_path: Path, go_program: Path, router: str
) -> None:
    async with open_network(tmp_path, go_program, pubsub_router=router) as network:
        asking, worker = network.asking, network.worker
        # over the topic, with nothing but us between them
        await asking.until(lambda heard: worker.id in heard, "directory")
        assert (await asking("directory"))[worker.id]["projects"] == {PROJECT: [MODEL]}
        assert (await asking("projects", peer=worker.id))["projects"] == {PROJECT: [MODEL]}
        assert (await asking("identity", peer=worker.id))["protocol_version"] == "aicn/0.0.1"
        assert (await worker("host-info", peer=asking.id))["os"] == "linux"
        # by rendezvous and DHT, then to each other
        await worker("provide", protocol=TOPIC)
        found = await asking.until(lambda found: worker.id in found, "rendezvous", protocol=TOPIC)
        assert worker.address.startswith(tuple(found[worker.id]))
        await expect_chats(network, worker.id)


def circuit(network: Network) -> str:
    return f"{address_of(network.public)}/p2p-circuit/p2p/{network.worker.id}"


@pytest.mark.parametrize("router", ["gossipsub", "floodsub"])
async def test_a_go_client_behind_our_relay(tmp_path: Path, go_program: Path, router: str) -> None:
    async with open_network(tmp_path, go_program, "-listen", "", pubsub_router=router) as network:
        reservation = await network.worker("reserve", address=address_of(network.public))
        assert (reservation["limit_bytes"], reservation["limit_duration_s"]) == (0, 0)
        await network.asking("connect", address=circuit(network))
        await expect_chats(network, network.worker.id)


async def test_over_a_limited_relay_go_asks_over_the_topic_only(tmp_path: Path, go_program: Path) -> None:
    """Go opens no ordinary stream on such a connection: it waits for a direct one, as it does with its own relays."""
    limits = {"relay_circuit_s": 120.0, "relay_circuit_bytes": 1 << 17}
    async with open_network(tmp_path, go_program, "-listen", "", **limits) as network:
        reservation = await network.worker("reserve", address=address_of(network.public))
        assert (reservation["limit_bytes"], reservation["limit_duration_s"]) == (1 << 17, 120)
        await network.asking("connect", address=circuit(network))
        assert (await chat(network.asking, network.worker.id))["texts"] == [network.endpoint.text]
        with pytest.raises(GoError):
            await proxy_chat(network.asking, network.worker.id, timeout_s=2)
        assert network.endpoint.total == 1


async def test_go_clients_among_enough_others_miss_nothing(tmp_path: Path, go_program: Path) -> None:
    """They have us as a direct peer and nobody else, and our mesh is full without them."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(open_network(tmp_path, go_program, before=8))
        asking, worker = network.asking, network.worker
        answered = await asking("load", peer=worker.id, project=PROJECT, model=MODEL, text="hi", count=50, clients=5)
        assert answered["failed"] == {}
        assert sorted(answered["times_ms"])[45] < 500  # what has to be asked for comes with the next heartbeat


# ---- what later versions say ----

LATER_CHAT = b"\x2a\x05a cid" + b"\x35\x00\x00\x80\x3f" + b"\x3d\x00\x00\x00\x3f"  # cid 5, temperature 6, top_p 7


def later_heartbeat() -> bytes:
    model = pb.AIModel(model="N", api="http://127.0.0.1:1/", type=1, idle=3)
    project = pb.AIProjectOfNode(project="later", models=[model.SerializeToString()])
    return pb.AIProjectBody(res=pb.AIProjectResponse(projects=[project], node_type=4)).SerializeToString()


def later_question() -> bytes:
    said = pb.ChatMessage(role="user", content=b'"Say hello."')
    asked = pb.ChatCompletionRequest(project=PROJECT, model=MODEL, messages=[said], wallet=pb.Wallet())
    request = pb.ChatCompletionRequest.FromString(asked.SerializeToString() + LATER_CHAT)
    return pb.ChatCompletionBody(req=request).SerializeToString()


async def test_what_later_versions_say_is_handed_on(tmp_path: Path, go_program: Path) -> None:
    """Of v0.2: heartbeats with other models, questions with more fields, types that nobody knows: answered by Go, not by us."""
    async with open_network(tmp_path, go_program) as network:
        asking, worker = network.asking, network.worker

        async def publish(go: GoPeer, **fields: Any) -> None:
            await go("publish-hex", text=encode(Envelope(sender=go.id, **fields)).hex())

        await asking.until(
            lambda heard: worker.id in heard, "directory"
        )  # Go takes in each message in a task of its own
        await publish(worker, type=Type.AI_PROJECT, receiver=None, id="", body=later_heartbeat(), text="heartbeat")
        await asking.until(lambda heard: "later" in heard[worker.id]["projects"], "directory")
        with network.public.node.topics.subscribe(TOPIC) as heard:
            await publish(asking, type=Type.CHAT_COMPLETION, receiver=worker.id, id="1", body=later_question())
            await publish(asking, type=99, receiver=worker.id, id="2", body=b"\x0a\x00")
            codes: dict[str, int] = {}
            with trio.fail_after(SOON_S):
                while len(codes) < 2:
                    answer = decode((await heard.receive()).data)
                    if answer.sender == worker.id and answer.receiver == asking.id:
                        codes[answer.id] = answer.code
        assert codes == {"1": 0, "2": 1010}
        assert json.loads(network.endpoint.bodies[0])["messages"] == [{"role": "user", "content": '"Say hello."'}]
