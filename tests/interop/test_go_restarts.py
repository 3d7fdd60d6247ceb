"""Nodes that are killed or frozen and come back, ours and Go's: the topic heals by itself, whoever joined through whom.

The Go nodes here dial nobody by themselves. The real ones try their bootstrap nodes again every 30 s, and cannot find one of ours
by the address that they saw: it dialled from a port that it does not listen on.
"""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from aicn.p2p.identity import generate_key
from aicn.storage.database import DATABASE_FILE
from tests.e2e.nodes import Daemon, chat, running, write_node
from tests.fakes.endpoint import FakeEndpoint, open_fake_endpoint
from tests.fakes.hosts import until
from tests.interop.gonet import CLIENT, MODEL, PROJECT, SERVER
from tests.interop.gopeer import EVENT_S, GoError, GoPeer, open_go_peer, require

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

HEALED_S = 15.0
DOWN_S = 4.0  # a restart takes its time; meanwhile the others try in vain


async def heal(go: GoPeer, ours: Daemon, what: str) -> None:
    """A plain chat works over the topic, both ways, before long."""
    began = trio.current_time()
    with trio.fail_after(EVENT_S):
        while not (await go_asks(go, ours) and await we_ask(ours, go)):
            await trio.sleep(0.1)
    took = trio.current_time() - began
    print(f"{what}: healed after {took:.1f} s")
    assert took < HEALED_S


async def go_asks(go: GoPeer, ours: Daemon) -> bool:
    try:
        answer = await go("chat", peer=ours.peer_id, project=PROJECT, model=MODEL, text="hello", timeout_s=1)
    except GoError:  # there was no answer
        return False
    return bool(answer["code"] == 0)


async def we_ask(ours: Daemon, go: GoPeer) -> bool:
    """What it offers, over the topic; and a chat, over a stream."""
    with trio.move_on_after(2):
        answers = [
            (await ours.post("/ai/project/peer", {"node_id": go.id})).json(),
            (await ours.post("/chat/completion", chat(go.id))).json(),
        ]
        return all(one["code"] == 0 for one in answers)
    return False


@dataclass
class Seat:
    """A Go node that may be killed and started again: the same key, the same address."""

    program: Path
    flags: tuple[str, ...]
    key: str
    endpoint: FakeEndpoint
    listen: str = "/ip4/127.0.0.1/tcp/0"

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[GoPeer]:
        async with open_go_peer(self.program, *self.flags, "-key", self.key, "-listen", self.listen) as go:
            self.listen = go.address.rpartition("/p2p/")[0]
            await go("register", project=PROJECT, model=MODEL, url=self.endpoint.url)
            yield go


class Neighbourhood:
    """A node of ours among three Go nodes: its bootstrap node, one that it was told to connect to, and one that joined through it."""

    def __init__(self, directory: Path, program: Path, endpoint: FakeEndpoint, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.seats = [Seat(program, flags, generate_key(), endpoint) for flags in (SERVER, SERVER, CLIENT)]
        self._directory = directory
        self._endpoint = endpoint

    async def go_nodes(self) -> list[GoPeer]:
        return [await self.stack.enter_async_context(seat.taken()) for seat in self.seats]

    async def ours(self, *bootstrap: str) -> Daemon:
        config = write_node(self._directory, bootstrap=bootstrap, p2p={"dht_mode": "server"})
        return await self.stack.enter_async_context(running(config))

    async def meet(self) -> tuple[Daemon, list[GoPeer]]:
        """All of them together, as they were in the beginning."""
        nodes = await self.go_nodes()
        bootstrap, named, client = nodes
        ours = await self.ours(bootstrap.address)
        await ours.register(self._endpoint.url)
        await ours.data("/swarm/connect", {"node_addr": named.address})
        await client("connect", address=ours.address)
        await heal_all(nodes, ours, "at first")
        return ours, nodes

    def remembered(self) -> int:
        """How many addresses our node has written down."""
        with closing(sqlite3.connect(self._directory / "data" / DATABASE_FILE)) as database:
            return int(database.execute("select count(*) from address").fetchone()[0])


async def heal_all(nodes: list[GoPeer], ours: Daemon, what: str) -> None:
    async with trio.open_nursery() as nursery:
        for go, part in zip(nodes, ("bootstrap", "connected by hand", "client of ours"), strict=True):
            nursery.start_soon(heal, go, ours, f"{what}, {part}")


@asynccontextmanager
async def open_neighbourhood(directory: Path) -> AsyncIterator[Neighbourhood]:
    async with open_fake_endpoint() as endpoint, AsyncExitStack() as stack:
        program = require("v0.33.1")  # what the existing network runs
        yield Neighbourhood(directory, program, endpoint, stack)


async def test_go_nodes_that_are_killed_and_come_back(tmp_path: Path) -> None:
    async with open_neighbourhood(tmp_path) as neighbourhood:
        ours, nodes = await neighbourhood.meet()
        for go in nodes:
            go.kill()
        await trio.sleep(DOWN_S)
        await heal_all(await neighbourhood.go_nodes(), ours, "Go nodes were killed")


async def test_we_are_killed_and_come_back(tmp_path: Path) -> None:
    async with open_neighbourhood(tmp_path) as neighbourhood:
        ours, nodes = await neighbourhood.meet()
        await until(lambda: neighbourhood.remembered() == 3, seconds=10)
        await ours.stop(signal.SIGKILL)
        await trio.sleep(DOWN_S)
        await heal_all(nodes, await neighbourhood.ours(nodes[0].address), "we were killed")


async def test_a_frozen_go_node_that_goes_on(tmp_path: Path) -> None:
    async with open_neighbourhood(tmp_path) as neighbourhood:
        ours, nodes = await neighbourhood.meet()
        for go in nodes:
            go.freeze()
        await trio.sleep(20)
        for go in nodes:
            go.thaw()
        await heal_all(nodes, ours, "Go nodes were frozen")
