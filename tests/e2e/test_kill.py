"""kill -9 at any moment, a disk that takes nothing more, a damaged file: what was acknowledged is there, and the node starts again.

The schedule comes from a seed, the moments from the machine. Twelve rounds; AICN_TEST_KILLS=50 asks for more.
"""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import subprocess
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest
import trio

from tests.e2e.nodes import AICN, Daemon, environment, running, write_node

pytestmark = pytest.mark.e2e

ROUNDS = int(os.environ.get("AICN_TEST_KILLS", "12"))
CLIENTS = 4  # each with projects of its own, so that it knows what they must be
PROJECTS = 3
LOAD_S = (0.0, 0.4)  # time under load before the kill, and …
MEETING_S = (1.9, 2.6)  # … of each fourth round: what is learned of peers is written 2 s later
START_S = 1.0  # latest kill of a node that is starting: on most machines it is ready by then
DATABASE = "aicn.db"

Models = tuple[str, ...]


@dataclass
class Ledger:
    """What a client knows of one project."""

    acknowledged: Models = ()
    asked: list[Models] = field(default_factory=list)  # and not answered: it may have happened or not

    def settle(self, found: Models) -> None:
        assert found in (self.acknowledged, *self.asked)
        self.acknowledged, self.asked = found, []


async def change_for_ever(node: Daemon, ledgers: dict[str, Ledger], chance: random.Random, number: count[int]) -> None:
    """Register, register anew and unregister, whole projects and single models, until the node is gone."""
    while True:
        project = chance.choice(sorted(ledgers))
        ledger = ledgers[project]
        if ledger.acknowledged and chance.random() < 0.4:
            left = ledger.acknowledged[1:] if chance.random() < 0.5 else ()
            body = {"project": project} | ({"model": ledger.acknowledged[0]} if left else {})
            path = "/ai/project/unregister"
        else:
            left = tuple(sorted(f"m{next(number)}" for _ in range(chance.randint(1, 3))))
            models = [{"model": model, "api": "http://127.0.0.1:1/" + "x" * 300} for model in left]
            path, body = "/ai/project/register", {"project": project, "models": models}
        ledger.asked.append(left)
        try:
            answer = (await node.post(path, body)).json()
        except (httpx.HTTPError, ValueError):
            return  # killed
        assert answer["code"] == 0, answer
        ledger.settle(left)


async def meet_for_ever(node: Daemon, neighbour: Daemon) -> None:
    """Make the node write of its peers, too: their addresses, and what they offer."""
    for n in count():
        try:
            await node.data("/swarm/connect", {"node_addr": neighbour.address})
        except (httpx.HTTPError, ValueError):
            return
        await neighbour.register("http://127.0.0.1:1/", project="neighbour", model=f"m{n}")


async def settle_all(node: Daemon, clients: list[dict[str, Ledger]]) -> None:
    """Everything acknowledged is there, and nothing that nobody has asked for."""
    listed = await node.data("/ai/project/peer", {"node_id": node.peer_id})
    found = {entry["project"]: tuple(sorted(entry["models"])) for entry in listed}
    for ledgers in clients:
        for project, ledger in ledgers.items():
            ledger.settle(found.pop(project, ()))
    assert not found


async def killed_under_load(
    config: Path,
    neighbour: Daemon,
    clients: list[dict[str, Ledger]],
    chance: random.Random,
    number: count[int],
    load_s: tuple[float, float],
) -> None:
    """One round: more is asked for, and the node is killed meanwhile."""
    async with running(config) as node:
        await settle_all(node, clients)
        async with trio.open_nursery() as nursery:
            for ledgers in clients:
                nursery.start_soon(
                    change_for_ever, node, ledgers, random.Random(chance.getrandbits(32)), number, name="client"
                )
            nursery.start_soon(meet_for_ever, node, neighbour)
            await trio.sleep(chance.uniform(*load_s))
            node.process.kill()


async def killed_while_starting(config: Path, chance: random.Random) -> None:
    """A round whose node does not live to be used."""
    command = [*AICN, "daemon", "--config", str(config)]
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    with trio.move_on_after(chance.uniform(0, START_S)):
        await process.wait()
    process.kill()
    await process.wait()


def known_addresses(data: Path) -> set[tuple[str, str]]:
    """What the database remembers of peers. It opens, and nothing in it is broken."""
    connection = sqlite3.connect(data / DATABASE)
    try:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return set(connection.execute("select peer, address from address"))
    finally:
        connection.close()


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_kill_9_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(5)
    config, number = write_node(tmp_path / "node"), count()
    clients = [{f"c{c}-p{p}": Ledger() for p in range(PROJECTS)} for c in range(CLIENTS)]
    known: set[tuple[str, str]] = set()
    async with running(write_node(tmp_path / "neighbour")) as neighbour:
        for n in range(ROUNDS):
            if n % 4 == 3:
                await killed_while_starting(config, chance)
            else:
                load_s = MEETING_S if n % 4 == 1 else LOAD_S
                await killed_under_load(config, neighbour, clients, chance, number, load_s)
            now = known_addresses(tmp_path / "node" / "data")
            assert known <= now
            known = now
        async with running(config) as node:
            await settle_all(node, clients)
            await node.data("/swarm/connect", {"node_addr": neighbour.address})
            with trio.fail_after(10):
                while not any(peer == neighbour.peer_id for peer, _ in known):
                    await trio.sleep(0.1)
                    known = known_addresses(tmp_path / "node" / "data")
    assert next(number) > 10 * ROUNDS  # there was a load


async def test_a_disk_that_takes_nothing_more(tmp_path: Path) -> None:
    """By the limit of a file's size: what is written fails as on a full disk, in a process that need not be root."""
    config = write_node(tmp_path)
    async with running(config) as node:
        await node.register("http://127.0.0.1:1/", project="before")
        wal = (tmp_path / "data" / f"{DATABASE}-wal").stat().st_size
        limits = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (wal, limits[1]))
        models = [{"model": f"m{n}", "api": "http://127.0.0.1:1/" + "x" * 1000} for n in range(100)]
        refused = await node.post("/ai/project/register", {"project": "during", "models": models})
        assert (refused.status_code, refused.json()["code"]) == (500, 1015)
        assert DATABASE in refused.json()["message"]
        assert [p["project"] for p in await node.data("/ai/project/peer", {"node_id": node.peer_id})] == ["before"]
        resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, limits)
        await node.data("/ai/project/register", {"project": "during", "models": models})
        node.process.kill()
    async with running(config) as node:
        listed = await node.data("/ai/project/peer", {"node_id": node.peer_id})
        assert sorted(p["project"] for p in listed) == ["before", "during"]


async def test_a_damaged_database_says_the_way_out(tmp_path: Path) -> None:
    config = write_node(tmp_path)
    data = tmp_path / "data"
    async with running(config) as node:
        await node.register("http://127.0.0.1:1/")
        assert await node.stop() == 0
    (data / DATABASE).write_bytes(b"\xff" * 20_000)
    result = await trio.run_process(
        [*AICN, "daemon", "--config", str(config)], capture_stderr=True, check=False, env=environment()
    )
    assert result.returncode == 1
    [line] = result.stderr.decode().splitlines()
    assert f"move {DATABASE} and the files beside it away" in line
    for path in data.glob(f"{DATABASE}*"):
        path.rename(tmp_path / path.name)
    async with running(config) as node:
        assert await node.data("/ai/project/peer", {"node_id": node.peer_id}) == []
