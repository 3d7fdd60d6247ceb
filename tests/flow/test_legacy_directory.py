"""Directories of whole nodes in a network where some have heartbeats only: no node twice, none too long, and little said."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from aicn.domain.nodes import Message
from aicn.domain.offers import NodeType
from aicn.domain.registration import Endpoint, Project
from aicn.p2p.host import Host
from aicn.wire.legacy import bodies, chat_proxy
from aicn.wire.legacy.envelope import Envelope, Type, decode, encode
from tests.fakes.hosts import echo, open_test_host, until
from tests.fakes.whole import Whole, open_whole

SOON_S = 20.0
TOPIC = "DeepBrainChain"
FAST = {"heartbeat_s": 1.0}


@asynccontextmanager
async def open_other() -> AsyncIterator[Host]:
    """A host that is on the topic and speaks none of our protocols."""
    async with open_test_host(dht_mode="none") as host:
        host.serve(chat_proxy.PROTOCOL, echo)
        yield host


async def join(host: Host, node: Whole) -> None:
    await host.connect(f"{node.node.peers.info().addresses[0]}/p2p/{node.id}")
    await until(lambda: node.id in host.topics.subscribers(TOPIC), seconds=SOON_S)


async def beat(host: Host, *models: str, node: str | None = None) -> None:
    """A heartbeat of the host, or in the name of another node."""
    body = bodies.encode_projects([Project("theirs", models)], NodeType.MODEL)
    sender: Any = node or host.id
    said = Envelope(Type.AI_PROJECT, sender, None, "", body, text="heartbeat", timestamp=int(time.time()))
    await host.topics.publish(TOPIC, encode(said))


def sees(node: Whole, project: str) -> list[str]:
    return [one.node for one in node.node.directory.catalog.providers(project, None, most=100)]


async def register(node: Whole, *models: str, project: str = "P") -> None:
    endpoints = [Endpoint(project, model, "http://127.0.0.1:1/") for model in models]
    await node.node.registration.register(project, endpoints)


class Heard:
    """All heartbeats that a host hears."""

    def __init__(self) -> None:
        self.said: list[Message] = []

    async def run(self, host: Host, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with host.topics.subscribe(TOPIC) as messages:
            task_status.started()
            async for message in messages:
                if decode(message.data).is_heartbeat:
                    self.said.append(message)

    def of(self, node: Whole) -> int:
        return sum(1 for message in self.said if message.sender == node.id)


async def test_between_our_own_nodes_heartbeats_say_nothing_new_and_are_not_repeated(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        open_whole(tmp_path / "a", legacy=FAST) as a,
        open_whole(tmp_path / "b", legacy=FAST) as b,
        open_whole(tmp_path / "c", legacy=FAST) as c,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(heard.run, c.node.peers)
        await register(a, "M")
        await a.connect(b)
        await b.connect(c)
        await until(lambda: sees(b, "P") == sees(c, "P") == [a.id], seconds=SOON_S)
        await register(a, "M", "N")
        await until(lambda: c.node.directory.models("P") == ["M", "N"], seconds=SOON_S)
        await until(lambda: heard.of(a) >= 1, seconds=SOON_S)
        await trio.sleep(1)  # what was said because of that is over
        count = len(heard.said)
        await trio.sleep(3.5)  # three times `heartbeat_s`
        assert len(heard.said) == count
        for node in (a, b, c):
            assert not node.node.directory.catalog.legacy_nodes()
            assert sorted(node.node.directory.catalog.nodes()) == sorted((a.id, b.id, c.id))
            assert sees(node, "P") == [a.id]
        nursery.cancel_scope.cancel()


async def test_nodes_with_heartbeats_only_are_known_far_away_and_heard_everywhere(tmp_path: Path) -> None:
    heard = Heard()
    async with (
        open_whole(tmp_path / "a", legacy=FAST) as a,
        open_whole(tmp_path / "b", legacy=FAST) as b,
        open_whole(tmp_path / "c", legacy={"enabled": False}) as c,
        trio.open_nursery() as nursery,
    ):
        async with open_other() as other:
            await nursery.start(heard.run, other)
            await join(other, a)
            await until(lambda: heard.of(a) >= 3, seconds=SOON_S)  # again and again, since somebody needs it
            await beat(other, "M1")
            await until(lambda: sees(a, "theirs") == [other.id], seconds=SOON_S)
            await b.connect(a)  # which repeats it, as it was signed
            await until(lambda: sees(b, "theirs") == [other.id], seconds=SOON_S)
            await until(lambda: heard.of(b) >= 2, seconds=SOON_S)
            await beat(other, "M1", "M2")
            await until(lambda: b.node.directory.models("theirs") == ["M1", "M2"], seconds=SOON_S)
            await register(b, "N")
            await c.connect(a)  # which cannot ask such nodes
            await until(lambda: sees(c, "P") == [b.id], seconds=SOON_S)
            assert (sees(c, "theirs"), heard.of(c)) == ([], 0)
            await beat(other, "lie", node=a.id)
            await beat(other, "M3")
            for node in (a, b):
                await until(lambda: node.node.directory.models("theirs") == ["M3"], seconds=SOON_S)  # noqa: B023
                everybody = sorted((a.id, b.id, c.id, other.id))
                await until(lambda: node.node.directory.members() == everybody, seconds=SOON_S)  # noqa: B023
        for node in (a, b):  # `b` was not connected to it, and has tried
            await until(lambda: sees(node, "theirs") == [], seconds=SOON_S)  # noqa: B023
            await until(lambda: node.node.directory.members() == sorted((a.id, b.id, c.id)), seconds=SOON_S)  # noqa: B023
        nursery.cancel_scope.cancel()


async def test_a_node_that_learns_to_make_offers_is_there_once(tmp_path: Path) -> None:
    """As one that is moved over with its key: its heartbeats went on until then."""
    key_of = tmp_path / "b"
    async with open_whole(tmp_path / "a") as a:
        async with open_whole(key_of, directory={"enabled": False}) as b:
            await register(b, "new")
            identity = b.id
            await b.connect(a)
            await until(lambda: sees(a, "P") == [identity], seconds=SOON_S)
            for _ in range(3):
                body = bodies.encode_projects([Project("P", ("old",))], NodeType.MODEL)
                await b.node.legacy.conversation.broadcast(body, "heartbeat")
            await trio.sleep(0.5)
            assert a.node.directory.models("P") == ["new"]
            assert sees(a, "P") == [identity]
            await b.node.directory.leave()
            await until(lambda: sees(a, "P") == [], seconds=SOON_S)
            assert identity not in a.node.directory.catalog.nodes()
