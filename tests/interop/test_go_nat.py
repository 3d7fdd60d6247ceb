"""Hole punching (libp2p spec, relay/DCUtR.md) between our node and go-libp2p, each behind a router of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.e2e.nodes import Daemon
from tests.interop.gopeer import GoPeer, open_go_peer
from tests.nat.nodes import PORT, at, node_in
from tests.nat.topology import PUBLIC, Home, open_internet

pytestmark = [
    pytest.mark.interop,
    pytest.mark.nat,
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("namespaces"),
]

DCUTR = "/libp2p/dcutr"
DIRECT_S = 60  # until a direct connection is there: three attempts, on a loaded machine


@dataclass
class World:
    """Our node and a Go peer, each in its home, and a relay that both are connected to."""

    relay: str
    ours: Daemon
    go: GoPeer
    our_home: Home
    go_home: Home

    async def until_direct(self) -> None:
        """Until both have a connection that leads from one router to the other."""
        with trio.fail_after(DIRECT_S):
            while not await self._sees(self.our_home, self.go_home):
                await trio.sleep(0.2)

    async def _sees(self, our_home: Home, go_home: Home) -> bool:
        ours = [one["addr"] for one in (await self.ours.post("/swarm/peers")).json() if one["peer"] == self.go.id]
        go = [one["address"] for one in (await self.go("peer", peer=self.ours.peer_id))["connections"]]
        return any(
            one.startswith(f"/ip4/{go_home.router_ip}/tcp/") for one in ours if "p2p-circuit" not in one
        ) and any(one.startswith(f"/ip4/{our_home.router_ip}/tcp/") for one in go if "p2p-circuit" not in one)


@asynccontextmanager
async def open_world(go_program: Path, directory: Path) -> AsyncIterator[World]:
    with open_internet() as net:
        async with (
            node_in(net.public, directory / "public", dht_mode="server", relay_service=True) as public,
            node_in(net.a.node, directory / "ours", bootstrap=at(public, PUBLIC)) as ours,
            open_go_peer(
                go_program, "-listen", f"/ip4/0.0.0.0/tcp/{PORT}", "-hole-punching", prefix=net.b.node.prefix
            ) as go,
        ):
            relay = at(public, PUBLIC)
            await go("connect", address=relay)
            await go("reserve", address=relay)
            await go.until(lambda served: DCUTR in served, "protocols")  # from when it knows its public address
            yield World(relay, ours, go, net.a, net.b)


async def test_go_asks_us_to_punch(go_program: Path, tmp_path: Path) -> None:
    async with open_world(go_program, tmp_path) as world:
        done = await world.ours.post("/swarm/connect", {"node_addr": f"{world.relay}/p2p-circuit/p2p/{world.go.id}"})
        assert done.status_code == 200, done.text
        await world.until_direct()
        assert len(await world.go("ping", peer=world.ours.peer_id, count=3)) == 3


async def test_we_ask_go_to_punch(go_program: Path, tmp_path: Path) -> None:
    async with open_world(go_program, tmp_path) as world:
        address = f"{world.relay}/p2p-circuit/p2p/{world.ours.peer_id}"
        await world.go("connect", address=address)  # fails before our node has its place with the relay
        await world.until_direct()
        assert len(await world.go("ping", peer=world.ours.peer_id, count=3)) == 3
