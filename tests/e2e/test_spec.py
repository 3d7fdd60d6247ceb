"""Every example of spec 1 replayed against a network of daemons, as a client of the existing program would send it.

What is compared: the members of each object and their order, the types of all values, and that arrays are arrays. The examples are
the ones that the node itself shows at /docs (`aicn/gateway/v0/schema/examples`), with peer ids and addresses of the running nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trio

from aicn.gateway.v0 import schema
from aicn.gateway.v0.openapi import OPERATIONS
from tests.e2e.nodes import Daemon, running, write_node
from tests.fakes.endpoint import FakeEndpoint, Scripted, answers, open_fake_endpoint, open_scripted, response
from tests.fakes.kubo import running_kubo
from tests.fakes.png import draw_png

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
EXAMPLES: dict[str, dict[str, Any]] = {
    file.name.removesuffix(".json"): json.loads(file.read_text())
    for file in resources.files(schema).joinpath("examples").iterdir()
}
MODELS = {one.name: one.answer for one in OPERATIONS}
KNOWN_S = 10.0  # for what one node does to be known to all, on a loaded machine
PSK = "5e" * 32


class Net(NamedTuple):
    """A public node, an input node and two workers."""

    public: Daemon
    asker: Daemon
    texts: Daemon  # has DecentralGPT's Llama3-70B
    images: Daemon  # has SuperImage's superImage, and DecentralGPT's Qwen2-72B
    endpoint: Scripted  # of all models of text: answers the example of spec 1
    painter: FakeEndpoint
    ipfs: str  # RPC address of a real kubo


@asynccontextmanager
async def a_network(tmp_path: Path, ipfs: str) -> AsyncIterator[Net]:
    said = json.dumps(EXAMPLES["chat_completion"]["answer"]["data"]).encode()
    async with (
        open_scripted(answers(response(200, said))) as endpoint,
        open_fake_endpoint() as painter,
        running(write_node(tmp_path / "public", psk=PSK, p2p={"dht_mode": "server"})) as public,
    ):
        config: dict[str, Any] = {"bootstrap": (public.address,), "psk": PSK}
        async with (
            running(write_node(tmp_path / "asker", **config)) as asker,
            running(write_node(tmp_path / "texts", **config)) as texts,
            running(write_node(tmp_path / "images", **config, ipfs={"api": ipfs})) as images,
        ):
            net = Net(public, asker, texts, images, endpoint, painter, ipfs)
            await register(net)
            yield net


async def ask(node: Daemon, name: str, **changes: Any) -> Any:
    """Send the example `name` with some members changed; the answer, which has the example's shape and code 0."""
    example = EXAMPLES[name]
    body = {**example["request"], **changes} if "request" in example else None
    reply = await node.client.request(example["method"], example["path"], json=body)
    assert reply.status_code == 200, (reply.status_code, reply.text)
    answer = reply.json()
    fits(answer, example["answer"], name)
    MODELS[name].model_validate_json(reply.content)
    if isinstance(answer, dict) and "code" in example["answer"]:
        assert (answer["code"], answer["message"]) == (0, "ok")
        return answer.get("data")
    return answer


def fits(live: Any, example: Any, where: str) -> None:
    """The same members in the same order, and values of the same types, all the way down."""
    assert type(live) is type(example), f"{where}: {live!r} instead of something like {example!r}"
    if isinstance(live, dict):
        assert list(live) == list(example), where
        for key, value in live.items():
            fits(value, example[key], f"{where}.{key}")
    elif isinstance(live, list):
        for i, value in enumerate(live):
            fits(value, example[0], f"{where}[{i}]")


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    with trio.move_on_after(KNOWN_S):
        while not await holds():
            await trio.sleep(0.05)
    assert await holds()


async def register(net: Net) -> None:
    example = EXAMPLES["ai_project_register"]["request"]
    model = example["models"][0]
    await ask(net.texts, "ai_project_register", models=[model | {"api": net.endpoint.url()}])
    qwen = model | {"model": "Qwen2-72B", "api": net.endpoint.url()}
    await ask(net.images, "ai_project_register", models=[qwen])
    drawing = {"model": "superImage", "api": net.painter.images_url, "type": 1}
    await ask(net.images, "ai_project_register", project="SuperImage", models=[drawing])


async def of_itself(net: Net) -> None:
    for node in net[:4]:
        info = await ask(node, "id")
        assert info["peer_id"] == node.peer_id
        assert f"{info['addresses'][0]}/p2p/{node.peer_id}" == node.address
        assert info["protocol_version"] == "aicn/0.0.1"
        assert "/ipfs/id/1.0.0" in info["protocols"]


async def nodes_of_the_network(net: Net) -> None:
    all_of_them = {node.peer_id for node in net[:4]}

    async def known() -> bool:
        return set(await ask(net.asker, "peers")) == all_of_them

    await until(known)


async def any_node(net: Net) -> None:
    for node in net[:4]:
        assert (await ask(net.asker, "peer", node_id=node.peer_id)) == await ask(node, "id")


async def any_machine(net: Net) -> None:
    here = [await ask(net.asker, "host_info", node_id=node.peer_id) for node in (net.asker, net.texts)]
    assert here[0] == here[1]  # they are on the same machine
    assert here[0]["os"]["os"]
    assert here[0]["cpu"][0]["total_threads"] >= 1
    assert here[0]["memory"]["total_usable_bytes"] > 2**20


async def chat(net: Net) -> None:
    for node in (net.asker, net.texts):
        said = await ask(node, "chat_completion", node_id=net.texts.peer_id)
        assert said == EXAMPLES["chat_completion"]["answer"]["data"]
        received = [json.loads(request.body) for request in net.endpoint.requests]
        asked = EXAMPLES["chat_completion"]["request"]
        assert {name: asked[name] for name in asked if name not in ("node_id", "project")} in received


async def chat_by_project(net: Net) -> None:
    for node in (net.asker, net.images):
        said = await ask(node, "chat_completion_proxy")
        assert said == EXAMPLES["chat_completion"]["answer"]["data"]


async def images(net: Net) -> None:
    """In both dialects of endpoints; what comes back is in the IPFS node, and pinned."""
    for node in (net.asker, net.images):
        for net.painter.dialect in ("url", "b64_json"):
            number = net.painter.drawn
            drawn = await ask(node, "image_gen", node_id=net.images.peer_id)
            await stored(net, drawn, number)


async def images_by_project(net: Net) -> None:
    for node in (net.asker, net.images):
        number = net.painter.drawn
        await stored(net, await ask(node, "image_gen_proxy"), number)


async def stored(net: Net, drawn: Any, number: int) -> None:
    assert drawn["ipfs_node"] == net.ipfs
    [choice] = drawn["choices"]
    assert re.fullmatch(r"[a-z0-9]{16}\.png", choice["image_name"])
    found = await net.asker.client.post(f"{net.ipfs}/api/v0/cat?arg={choice['cid']}")
    assert found.content == draw_png(number)
    assert choice["cid"] in (await net.asker.client.post(f"{net.ipfs}/api/v0/pin/ls")).json()["Keys"]


async def projects(net: Net) -> None:
    for node in net[:4]:

        async def known(node: Daemon = node) -> bool:
            return sorted(await ask(node, "ai_projects_list")) == EXAMPLES["ai_projects_list"]["answer"]["data"]

        await until(known)


async def models(net: Net) -> None:
    async def known() -> bool:
        return sorted(await ask(net.asker, "ai_projects_models")) == ["Llama3-70B", "Qwen2-72B"]

    await until(known)


async def peers_of_a_model(net: Net) -> None:
    [near] = await ask(net.asker, "ai_projects_peers")
    assert near["node_id"] == net.texts.peer_id
    if near["connectivity"] == 1:
        assert near["latency"] < 10_000_000  # µs; more would be seconds
    body = EXAMPLES["ai_projects_peers"]["request"]
    of_project = (await net.asker.post("/ai/projects/peers?number=3", {"project": body["project"]})).json()["data"]
    assert {one["node_id"] for one in of_project} == {net.texts.peer_id, net.images.peer_id}
    assert len((await net.asker.post("/ai/projects/peers?number=1", {"project": body["project"]})).json()["data"]) == 1


async def connections(net: Net) -> None:
    for connection in await ask(net.public, "swarm_peers"):
        assert re.fullmatch(rf"{connection['peer'][:10]}-\d+", connection["id"])
        assert re.fullmatch(r"0s|\d+(\.\d+)?(µs|ms|s)", connection["latency"])
        assert connection["addr"].startswith("/ip4/127.0.0.1/tcp/")
        assert connection["direction"] in ("Inbound", "Outbound")
    peers = {connection["peer"] for connection in await ask(net.public, "swarm_peers")}
    assert peers == {net.asker.peer_id, net.texts.peer_id, net.images.peer_id}


async def addresses(net: Net) -> None:
    known = {entry["peer"]: entry["addrs"] for entry in await ask(net.public, "swarm_addrs")}
    for node in net[:4]:
        assert node.address.partition("/p2p/")[0] in known[node.peer_id]


async def connect(net: Net) -> None:
    await ask(net.asker, "swarm_connect", node_addr=net.texts.address)
    assert net.texts.peer_id in {connection["peer"] for connection in await ask(net.asker, "swarm_peers")}


async def disconnect(net: Net) -> None:
    """Closed, and closed it stays, until somebody wants it open."""
    await ask(net.asker, "swarm_connect", node_addr=net.images.address)
    await ask(net.asker, "swarm_disconnect", node_addr=net.images.address)
    assert net.images.peer_id not in {connection["peer"] for connection in await ask(net.asker, "swarm_peers")}
    again = await net.asker.post("/swarm/disconnect", {"node_addr": net.images.address})
    assert (again.status_code, again.json()["code"]) == (500, 5000)
    await ask(net.asker, "swarm_connect", node_addr=net.images.address)
    assert net.images.peer_id in {connection["peer"] for connection in await ask(net.asker, "swarm_peers")}


async def subscribers(net: Net) -> None:
    async def known() -> bool:
        return {net.asker.peer_id, net.texts.peer_id, net.images.peer_id} <= set(await ask(net.public, "pubsub_peers"))

    await until(known)


async def registrations(net: Net) -> None:
    for node in net[:4]:
        told = await ask(node, "ai_project_peer", node_id=net.texts.peer_id)
        assert told == EXAMPLES["ai_project_peer"]["answer"]["data"]


async def unregister(net: Net) -> None:
    await ask(net.texts, "ai_project_unregister")
    assert await ask(net.asker, "ai_project_peer", node_id=net.texts.peer_id) == []

    async def gone() -> bool:
        return await ask(net.asker, "ai_projects_peers") == []

    await until(gone)


REPLAYS: dict[str, Callable[[Net], Awaitable[None]]] = {
    "id": of_itself,
    "peers": nodes_of_the_network,
    "peer": any_node,
    "host_info": any_machine,
    "ai_projects_list": projects,
    "ai_projects_models": models,
    "ai_projects_peers": peers_of_a_model,
    "ai_project_peer": registrations,
    "chat_completion": chat,
    "chat_completion_proxy": chat_by_project,
    "image_gen": images,
    "image_gen_proxy": images_by_project,
    "swarm_peers": connections,
    "swarm_addrs": addresses,
    "swarm_connect": connect,
    "swarm_disconnect": disconnect,
    "pubsub_peers": subscribers,
    "ai_project_unregister": unregister,  # last: what it removes is needed before
}
BY_THE_WAY = {"ai_project_register"}  # a_network does it
CHANGING = {"image_gen", "image_gen_proxy", "swarm_connect", "swarm_disconnect", "ai_project_unregister"}
AT_ONCE = 8  # times each of the others


@pytest.fixture(scope="module")
def ipfs() -> Iterator[str]:
    with running_kubo() as url:
        yield url


async def test_every_example_works_alone_and_beside_all_others(tmp_path: Path, ipfs: str) -> None:
    assert REPLAYS.keys() | BY_THE_WAY == EXAMPLES.keys()
    problems = []
    async with a_network(tmp_path, ipfs) as net:

        async def tried(name: str) -> None:
            try:
                await REPLAYS[name](net)
            except (AssertionError, httpx.HTTPError, KeyError, ValueError) as problem:
                problems.append(f"{name}: {problem!r}")

        async with trio.open_nursery() as nursery:
            await nodes_of_the_network(net)
            await models(net)  # a node may be known before what it offers is
            for name in [*(REPLAYS.keys() - CHANGING)] * AT_ONCE:
                nursery.start_soon(tried, name)
        for name in REPLAYS:
            await tried(name)
    assert not problems, "\n".join(problems)
