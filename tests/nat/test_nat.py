"""Real daemons behind real NATs: who reaches whom, and what a line that is long or dead does to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nat.links import open_link
from tests.nat.nodes import PORT, ask, at, connections, model_in, node_in, rtt_s, until, until_answered
from tests.nat.topology import PUBLIC, open_internet

pytestmark = [pytest.mark.nat, pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.usefixtures("namespaces")]


async def test_without_a_relay_only_the_public_node_reaches_a_worker_behind_nat(tmp_path: Path) -> None:
    with open_internet() as net:
        async with (
            node_in(net.public, tmp_path / "public", dht_mode="server") as public,
            node_in(net.b.node, tmp_path / "worker", bootstrap=at(public, PUBLIC)) as worker,
            node_in(net.a.node, tmp_path / "input", bootstrap=at(public, PUBLIC), dial_s=3.0) as asker,
            model_in(net.b.node, worker) as endpoint,
        ):
            for node, home in ((worker, net.b), (asker, net.a)):
                (seen,) = await until(public, node, bool)
                assert seen["addr"].split("/")[2] == home.router_ip

            assert (await ask(public, worker)).json()["data"]["choices"][0]["message"]["content"] == endpoint.text
            refused = await ask(asker, worker)
            assert refused.status_code in (404, 504), refused.text
            connected = await asker.post("/swarm/connect", {"node_addr": at(worker, net.b.router_ip)})
            assert connected.status_code == 504, connected.text


async def test_a_relay_makes_a_worker_behind_nat_reachable(tmp_path: Path) -> None:
    with open_internet(symmetric=True) as net:
        async with (
            node_in(net.public, tmp_path / "public", dht_mode="server", relay_service=True) as public,
            node_in(net.b.node, tmp_path / "worker", bootstrap=at(public, PUBLIC)) as worker,
            node_in(net.a.node, tmp_path / "input", bootstrap=at(public, PUBLIC)) as asker,
            model_in(net.b.node, worker) as endpoint,
        ):
            await until_answered(asker, worker)
            answer = await ask(asker, worker)
            assert answer.json()["data"]["choices"][0]["message"]["content"] == endpoint.text
            (found,) = await connections(asker, worker)
            assert "/p2p-circuit" in found["addr"], found


async def test_a_dead_line_is_noticed_and_recovered(tmp_path: Path) -> None:
    with open_internet() as net:
        async with (
            node_in(net.public, tmp_path / "public") as public,
            node_in(net.b.node, tmp_path / "worker", bootstrap=at(public, PUBLIC)) as worker,
            model_in(net.b.node, worker),
        ):
            await until(public, worker, bool)
            net.cut(net.b)
            await until(public, worker, lambda found: not found)
            await until(worker, public, lambda found: not found)
            assert (await ask(public, worker)).status_code in (404, 504)
            net.mend(net.b)
            await until(public, worker, bool, within=60)
            assert (await ask(public, worker)).status_code == 200


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
            answer = await ask(public, worker)
            assert answer.json()["data"]["choices"][0]["message"]["content"] == endpoint.text
