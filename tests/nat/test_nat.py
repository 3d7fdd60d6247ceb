"""Real daemons behind real NATs: who reaches whom, and what a line that is long or dead does to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.nodes import Daemon
from tests.fakes.endpoint import FakeEndpoint
from tests.nat.links import open_link
from tests.nat.nodes import (
    PORT,
    ask,
    at,
    direct,
    model_in,
    node_in,
    relayed,
    rtt_s,
    until,
    until_answered,
    until_logged,
)
from tests.nat.topology import PUBLIC, Internet, open_internet

pytestmark = [pytest.mark.nat, pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]


class Nodes(NamedTuple):
    """A worker with a model and one who asks for it, each at home, and the public node that both know."""

    public: Daemon
    worker: Daemon
    asker: Daemon
    endpoint: FakeEndpoint


@asynccontextmanager
async def two_homes(net: Internet, directory: Path, *, relay: bool, **p2p: Any) -> AsyncIterator[Nodes]:
    """`relay`: the public node is one; `p2p`: more configuration of the other two."""
    async with node_in(net.public, directory / "public", dht_mode="server", relay_service=relay) as public:
        p2p["bootstrap"] = at(public, PUBLIC)
        async with (
            node_in(net.b.node, directory / "worker", **p2p) as worker,
            node_in(net.a.node, directory / "input", **p2p) as asker,
            model_in(net.b.node, worker) as endpoint,
        ):
            yield Nodes(public, worker, asker, endpoint)


async def expect_answer(nodes: Nodes, *, from_: Daemon | None = None) -> None:
    answer = await ask(from_ or nodes.asker, nodes.worker)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["choices"][0]["message"]["content"] == nodes.endpoint.text


async def test_without_a_relay_only_the_public_node_reaches_a_worker_behind_nat(tmp_path: Path) -> None:
    with open_internet() as net:
        async with two_homes(net, tmp_path, relay=False, dial_s=3.0) as nodes:
            for node, home in ((nodes.worker, net.b), (nodes.asker, net.a)):
                (seen,) = await until(nodes.public, node, bool)
                assert seen["addr"].split("/")[2] == home.router_ip
            await expect_answer(nodes, from_=nodes.public)
            refused = await ask(nodes.asker, nodes.worker)
            assert refused.status_code in (404, 504), refused.text
            connected = await nodes.asker.post("/swarm/connect", {"node_addr": at(nodes.worker, net.b.router_ip)})
            assert connected.status_code == 504, connected.text


async def test_a_relayed_chat_becomes_direct_and_outlives_the_relay(tmp_path: Path) -> None:
    """The routers let packets pass that both sides have sent for."""
    with open_internet() as net:
        async with two_homes(net, tmp_path, relay=True) as nodes:
            await until_answered(nodes.asker, nodes.worker)
            found = await until(nodes.asker, nodes.worker, lambda found: any(map(direct, found)))
            assert {one["addr"] for one in found if direct(one)} == {f"/ip4/{net.b.router_ip}/tcp/{PORT}"}
            await nodes.public.stop()
            await expect_answer(nodes)


async def test_a_chat_stays_relayed_where_routers_hide_the_port(tmp_path: Path) -> None:
    with open_internet(symmetric=True) as net:
        async with two_homes(net, tmp_path, relay=True) as nodes:
            await until_answered(nodes.asker, nodes.worker)
            await until_logged(nodes.worker, "aicn.p2p.dcutr: hole punching with")  # an attempt has failed
            (found,) = await until(nodes.asker, nodes.worker, bool)
            assert relayed(found)
            await expect_answer(nodes)


async def test_a_dead_line_is_noticed_and_recovered(tmp_path: Path) -> None:
    with open_internet(symmetric=True) as net:
        async with two_homes(net, tmp_path, relay=True, hole_punching=False) as nodes:
            await until_answered(nodes.asker, nodes.worker)
            net.cut(net.b)
            for one, other in ((nodes.public, nodes.worker), (nodes.worker, nodes.public), (nodes.asker, nodes.worker)):
                await until(one, other, lambda found: not found)
            assert (await ask(nodes.asker, nodes.worker)).status_code in (404, 504)
            net.mend(net.b)
            await until_answered(nodes.asker, nodes.worker, within=60)


async def test_a_long_line_is_measured_and_carries_a_chat(tmp_path: Path) -> None:
    delay_s = 0.3
    with open_internet() as net:
        async with (
            node_in(net.public, tmp_path / "public") as public,
            open_link((net.public, PUBLIC, PORT + 1), (net.public, PUBLIC, PORT), delay_s=delay_s) as far,
            node_in(net.b.node, tmp_path / "worker", bootstrap=at(public, PUBLIC, far)) as worker,
            model_in(net.b.node, worker) as endpoint,
        ):
            await until(public, worker, lambda found: any(rtt_s(one) >= 2 * delay_s for one in found))
            await expect_answer(Nodes(public, worker, public, endpoint))
