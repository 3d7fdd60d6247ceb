"""Who offers what in a network of our nodes and Go nodes with the habits of the existing network's: each side lists the other's.

The Go nodes say what they have every three minutes, and when it changes: nothing here waits for that. Printed times are those of this
machine; a heartbeat or an answer is what it takes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from aicn.domain.offers import NodeType
from aicn.domain.registration import Endpoint
from aicn.p2p.identity import generate_key
from tests.fakes.whole import Whole, open_whole
from tests.interop.gonet import CLIENT, SERVER, address_of
from tests.interop.gopeer import GoPeer, open_go_peer

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SOON_S = 20.0  # two seconds are asked for, on a machine that does nothing else
URL = "http://127.0.0.1:1/"  # nobody is asked there
TOPIC = "DeepBrainChain"
FLAGS = {"floodsub": SERVER, "gossipsub": CLIENT}

each_router = pytest.mark.parametrize("router", ["floodsub", "gossipsub"])


async def within(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    began = time.perf_counter()
    with trio.fail_after(SOON_S):
        while not await condition():
            await trio.sleep(0.02)
    print(f"{what}: {time.perf_counter() - began:.3f} s")


@dataclass
class Ours:
    """A node of ours."""

    whole: Whole

    @property
    def id(self) -> str:
        return self.whole.id

    async def register(self, *models: str, project: str) -> None:
        endpoints = [Endpoint(project, model, URL) for model in models]
        await self.whole.node.registration.register(project, endpoints)

    async def data(self, method: str, path: str, body: object = b"") -> Any:
        reply = await self.whole.request(method, f"/api/v0{path}", body)
        assert reply.json["code"] == 0, reply.json
        return reply.json["data"]

    async def providers(self, project: str, model: str = "") -> dict[str, dict[str, Any]]:
        """By node."""
        found = await self.data("POST", "/ai/projects/peers?number=100", {"project": project, "model": model})
        return {one["node_id"]: one for one in found}

    async def sees(self, node: str, project: str, model: str) -> bool:
        """Whether all calls list it, the last of which knows how far it is."""
        if project not in await self.data("POST", "/ai/projects/list"):
            return False
        if model not in await self.data("POST", "/ai/projects/models", {"project": project}):
            return False
        assert node in await self.data("GET", "/peers")
        found = await self.providers(project, model)
        return node in found and found[node]["connectivity"] == 1 and found[node]["latency"] > 0

    async def misses(self, node: str, project: str) -> bool:
        return node not in await self.providers(project)


async def listed(go: GoPeer, node: str, projects: Mapping[str, Collection[str]], node_type: NodeType) -> bool:
    """Whether the Go node's directory has exactly this of the node."""
    entry = (await go("directory")).get(node)
    if entry is None:
        return False
    told = {name: sorted(models) for name, models in entry["projects"].items()}
    return told == {name: sorted(models) for name, models in projects.items()} and entry["node_type"] == node_type


@asynccontextmanager
async def open_ours(directory: Path, *, router: str, psk: str = "", **p2p: Any) -> AsyncIterator[Ours]:
    async with open_whole(directory, psk=psk, p2p={"pubsub_router": router, "dht_mode": "server", **p2p}) as whole:
        yield Ours(whole)


@each_router
async def test_both_sides_list_each_other_at_once(tmp_path: Path, go_program: Path, router: str) -> None:
    psk = secrets.token_hex(32)
    async with (
        open_go_peer(go_program, *FLAGS[router], "-psk", psk) as go,
        open_ours(tmp_path, router=router, psk=psk, relay_service=True) as ours,
    ):
        public = NodeType.PUBLIC | NodeType.DIRECTORY
        await go("register", project="theirs", model="T1", url=URL)  # nobody hears that
        await ours.register("O1", project="ours")
        await go("connect", address=address_of(ours.whole))

        await within(lambda: listed(go, ours.id, {"ours": ["O1"]}, public | NodeType.MODEL), "Go knows us")
        await within(lambda: ours.sees(go.id, "theirs", "T1"), "we know Go")

        await ours.register("O1", "O2", project="ours")
        await ours.register("X", project="more")
        everything = {"ours": ["O1", "O2"], "more": ["X"]}
        await within(lambda: listed(go, ours.id, everything, public | NodeType.MODEL), "Go knows our new models")
        await go("register", project="theirs", model="T2", url=URL)
        await within(lambda: ours.sees(go.id, "theirs", "T2"), "we know Go's new model")
        assert await ours.data("POST", "/ai/projects/models", {"project": "theirs"}) == ["T1", "T2"]

        await within(lambda: meet(go, ours), "each is found at the rendezvous")

        await go("unregister", project="theirs")
        await within(lambda: ours.misses(go.id, "theirs"), "Go's project is gone")
        for project in everything:
            await ours.whole.node.registration.unregister(project)
        await within(lambda: listed(go, ours.id, {}, public), "our projects are gone")
        assert go.id in await ours.data("GET", "/peers")


async def meet(go: GoPeer, ours: Ours) -> bool:
    """Both advertise themselves, and each finds the other."""
    found = await go("rendezvous", protocol=TOPIC)
    return ours.id in found and go.id in await ours.data("GET", "/rendezvous/peers")


@each_router
async def test_who_is_killed_is_gone_and_who_comes_back_is_back(tmp_path: Path, go_program: Path, router: str) -> None:
    flags = (*FLAGS[router], "-key", generate_key())
    async with open_ours(tmp_path, router=router) as ours:
        await ours.register("O", project="ours")
        for life in range(2):
            async with open_go_peer(go_program, *flags) as go:
                await go("register", project="theirs", model=f"T{life}", url=URL)
                await go("connect", address=address_of(ours.whole))
                await within(lambda: ours.sees(go.id, "theirs", f"T{life}"), "Go is known")  # noqa: B023
                await within(lambda: listed(go, ours.id, {"ours": ["O"]}, NodeType(6)), "and knows us")
                go.kill()
                await within(lambda: ours.misses(go.id, "theirs"), "Go was killed")
                assert go.id not in await ours.data("GET", "/peers")


@each_router
async def test_we_say_goodbye_and_come_back(tmp_path: Path, go_program: Path, router: str) -> None:
    async with open_go_peer(go_program, *FLAGS[router]) as go:
        await go("register", project="theirs", model="T", url=URL)
        async with open_ours(tmp_path, router=router) as ours:
            await ours.register("O", project="ours")
            await ours.whole.node.peers.connect(go.address)
            await within(lambda: listed(go, ours.id, {"ours": ["O"]}, NodeType(6)), "Go knows us")
            await ours.whole.node.directory.leave()  # as at a stop signal
            await within(lambda: listed(go, ours.id, {}, NodeType(0)), "Go knows that we stop")
        async with open_ours(tmp_path, router=router) as again:
            await again.whole.node.peers.connect(go.address)
            await within(lambda: listed(go, again.id, {"ours": ["O"]}, NodeType(6)), "and back")
            await within(lambda: again.sees(go.id, "theirs", "T"), "and we know Go")


async def test_a_node_that_joins_hears_from_ours_what_go_nodes_said_before(tmp_path: Path, go_program: Path) -> None:
    """It is not connected to the Go node, whose next heartbeat is three minutes away."""
    async with (
        open_go_peer(go_program, *SERVER) as go,
        open_ours(tmp_path / "between", router="floodsub") as between,
        open_ours(tmp_path / "joining", router="floodsub") as joining,
    ):
        await go("connect", address=address_of(between.whole))
        await go.until(lambda peers: between.id in peers, "topic-peers")
        await go("register", project="theirs", model="T", url=URL)
        await within(lambda: between.sees(go.id, "theirs", "T"), "a neighbour knows Go")
        await joining.register("J", project="joining's")
        await joining.whole.connect(between.whole)

        async def known() -> bool:
            return go.id in await joining.providers("theirs", "T")

        await within(known, "who joins knows Go")
        await within(lambda: listed(go, joining.id, {"joining's": ["J"]}, NodeType(6)), "Go knows who joins")
