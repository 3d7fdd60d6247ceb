"""A mixed network as processes, with a private network's key: everybody asks everybody for everything, once.

public   ours    what all others joined through
worker   ours
input    ours
server   Go      floodsub, DHT server
one      Go      a client: gossipsub, DHT client, our public node as direct peer
other    Go      the same
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from aicn.config.presets import ROLES
from tests.e2e.nodes import Daemon, chat, events, running, write_node
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.kubo import running_kubo
from tests.interop import gonet
from tests.interop.gonet import CLIENT, MODEL, PROJECT, SERVER, open_go_client
from tests.interop.gopeer import EVENT_S, GoPeer, require

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PSK = secrets.token_hex(32)
IMAGES = "draws"  # a model
CID_SIZE = 46  # characters


class Side(Protocol):
    """A node that asks others. Each call raises, or fails an assertion, when the answer is not what it should be."""

    id: str

    async def identity(self, node: str) -> None: ...
    async def host(self, node: str) -> None: ...
    async def projects(self, node: str) -> None: ...
    async def plain(self, node: str) -> None: ...
    async def streamed(self, node: str) -> None: ...
    async def image(self, node: str) -> None: ...


KINDS: dict[str, Callable[[Side, str], Awaitable[None]]] = {
    "identity": lambda side, node: side.identity(node),
    "host": lambda side, node: side.host(node),
    "projects": lambda side, node: side.projects(node),
    "plain": lambda side, node: side.plain(node),
    "streamed": lambda side, node: side.streamed(node),
    "image": lambda side, node: side.image(node),
}


@dataclass
class Ours:
    """A daemon, asked over HTTP."""

    daemon: Daemon
    endpoint: FakeEndpoint
    ipfs: str

    @property
    def id(self) -> str:
        return self.daemon.peer_id

    async def identity(self, node: str) -> None:
        assert (await self.daemon.data("/peer", {"node_id": node}))["peer_id"] == node

    async def host(self, node: str) -> None:
        assert (await self.daemon.data("/host/info", {"node_id": node}))["os"]["os"] == "linux"

    async def projects(self, node: str) -> None:
        (project,) = await self.daemon.data("/ai/project/peer", {"node_id": node})
        assert project["project"] == PROJECT

    async def plain(self, node: str) -> None:
        answer = await self.daemon.data("/chat/completion", chat(node))
        assert answer["choices"][0]["message"]["content"] == self.endpoint.text

    async def streamed(self, node: str) -> None:
        path, body = "/api/v0/chat/completion", chat(node, stream=True)
        async with self.daemon.client.stream("POST", path, json=body) as response:
            said = [f"data: {one}" async for one in events(response)]
        assert gonet.text_in("\n".join(said)) == self.endpoint.text

    async def image(self, node: str) -> None:
        asked = {"node_id": node, "project": PROJECT, "model": IMAGES, "prompt": "a cat", "ipfs_node": self.ipfs}
        (made,) = (await self.daemon.data("/image/gen", asked))["choices"]
        assert len(made["cid"]) == CID_SIZE


@dataclass
class Go:
    """A Go node."""

    peer: GoPeer
    endpoint: FakeEndpoint
    ipfs: str

    @property
    def id(self) -> str:
        return self.peer.id

    async def identity(self, node: str) -> None:
        assert (await self._ask("identity", node))["protocol_version"] == "aicn/0.0.1"

    async def host(self, node: str) -> None:
        assert (await self._ask("host-info", node))["os"] == "linux"

    async def projects(self, node: str) -> None:
        assert sorted((await self._ask("projects", node))["projects"][PROJECT]) == sorted([MODEL, IMAGES])

    async def plain(self, node: str) -> None:
        answer = await self._ask("chat", node, project=PROJECT, model=MODEL, text="Say hello.")
        assert answer["texts"] == [self.endpoint.text]

    async def streamed(self, node: str) -> None:
        assert await gonet.proxy_chat(self.peer, node) == (200, self.endpoint.text)

    async def image(self, node: str) -> None:
        answer = await self._ask("image", node, project=PROJECT, model=IMAGES, text="a cat", count=1, url=self.ipfs)
        (cid,) = answer["cids"]
        assert len(cid) == CID_SIZE

    async def _ask(self, command: str, node: str, **fields: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.peer(command, peer=node, **fields)
        assert answer["code"] == 0, answer
        return answer


BEAT_S = (
    2  # between heartbeats, not three minutes: who was not connected to the one who spoke hears of it with the next
)


@asynccontextmanager
async def open_network(directory: Path) -> AsyncIterator[dict[str, Side]]:
    """The nodes by name, all with the same models, and all known to all."""
    with running_kubo() as ipfs:
        async with AsyncExitStack() as stack:
            endpoint = await stack.enter_async_context(open_fake_endpoint())
            network: dict[str, Side] = {}
            bootstrap: tuple[str, ...] = ()
            for role in ("public", "worker", "input"):
                p2p = ROLES[role].config.p2p
                settings = {"dht_mode": p2p.dht_mode, "relay_service": p2p.relay_service}
                config = write_node(
                    directory / role,
                    bootstrap=bootstrap,
                    psk=PSK,
                    p2p=settings,
                    ipfs={"api": ipfs},
                    legacy={"heartbeat_s": BEAT_S},
                )
                ours = Ours(await stack.enter_async_context(running(config)), endpoint, ipfs)
                bootstrap = bootstrap or (ours.daemon.address,)
                models = [
                    {"model": MODEL, "api": endpoint.url, "type": 0},
                    {"model": IMAGES, "api": endpoint.images_url, "type": 1},
                ]
                await ours.daemon.data("/ai/project/register", {"project": PROJECT, "models": models})
                network[role] = ours
            program = require("v0.33.1")  # what the existing network runs
            for name, flags in (("server", SERVER), ("one", CLIENT), ("other", CLIENT)):
                beat = ("-heartbeat", f"{BEAT_S}s")
                opened = open_go_client(program, bootstrap[0], psk=PSK, flags=(*flags, *beat))
                go = Go(await stack.enter_async_context(opened), endpoint, ipfs)
                await go.peer("register", project=PROJECT, model=MODEL, url=endpoint.url)
                await go.peer("register", project=PROJECT, model=IMAGES, url=endpoint.images_url)
                network[name] = go
            yield network


async def all_in(asking: Side, nodes: set[str]) -> None:
    """Until all nodes are in the directory of a node of ours, or have been heard of by a Go node."""
    with trio.fail_after(EVENT_S):
        while True:
            if isinstance(asking, Ours):
                found = await asking.daemon.data("/ai/projects/peers?number=100", {"project": PROJECT, "model": IMAGES})
                known = {one["node_id"] for one in found}
            else:
                assert isinstance(asking, Go)
                known = set(await asking.peer("directory")) - {""}
            if nodes <= known:
                return
            await trio.sleep(0.1)


async def test_everybody_asks_everybody_for_everything(tmp_path: Path) -> None:
    async with open_network(tmp_path) as network:
        everybody = {side.id for side in network.values()}
        for name, asking in network.items():
            await all_in(asking, everybody - {asking.id})
            print(f"{name} knows all others")
        failed = []
        print(f"{'':8}" + "".join(f"{name:>10}" for name in network))
        for name, asking in network.items():
            cells = []
            for answering in network.values():
                if answering is asking:
                    cells.append("-")
                    continue
                wrong = [kind for kind in KINDS if not await works(asking, kind, answering.id)]
                failed += [f"{name} asks {answering.id}: {kind}" for kind in wrong]
                cells.append(f"{len(KINDS) - len(wrong)} of {len(KINDS)}")
            print(f"{name:8}" + "".join(f"{cell:>10}" for cell in cells))
        assert not failed


async def works(asking: Side, kind: str, node: str) -> bool:
    try:
        with trio.fail_after(10):
            await KINDS[kind](asking, node)
    except Exception as error:  # the table is to be whole; the test fails at its end
        print(f"{kind}, {node}: {error!r}")
        return False
    return True
