"""Nodes that are only a p2p host and a directory: what they offer is registered, and never asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

import trio

from aicn.config.schema import Limits
from aicn.domain.offers import NodeType
from aicn.domain.registration import Endpoint
from aicn.p2p.host import Host, open_host
from aicn.p2p.identity import Key, generate_key, parse_key
from aicn.services.announcer import Announcer, Offered
from aicn.services.catalog import Catalog
from aicn.services.directory import Directory, open_directory
from aicn.services.nodes import Nodes
from aicn.services.ports import OfferStore
from aicn.services.registration import Registration
from aicn.services.worker import Worker
from aicn.wire import control, offers
from tests.fakes.answers import ScriptedEndpoints
from tests.fakes.hardware import FixedMachine
from tests.fakes.hosts import CONFIG
from tests.fakes.stores import MemoryOffers, MemoryRegistrations


@dataclass(frozen=True)
class Member:
    """A node of the network."""

    host: Host
    registration: Registration
    nodes: Nodes
    directory: Directory

    async def register(self, model: str, project: str = "P") -> None:
        await self.registration.register(project, [Endpoint(project, model, "http://127.0.0.1:1/")])

    def sees(self, model: str, project: str = "P") -> list[str]:
        """Who offers the model, by this node's knowledge."""
        return [one.node for one in self.directory.catalog.providers(project, model, most=100)]


@asynccontextmanager
async def open_member(
    *,
    key: Key | None = None,
    store: OfferStore | None = None,
    enabled: bool = True,
    router: Literal["gossipsub", "floodsub"] = "gossipsub",
) -> AsyncIterator[Member]:
    """A node on loopback, connected to nobody."""
    config = replace(CONFIG, dht_mode="server", pubsub_router=router)
    async with open_host(config, key or parse_key(generate_key()), agent_version="aicn/test") as host:
        host.topics.join(config.topic)
        registration = Registration(MemoryRegistrations())
        worker = Worker(registration, ScriptedEndpoints(lambda _: ()), Limits(), request_bytes=1000)
        nodes = Nodes(host, registration, FixedMachine())
        host.serve(control.PROTOCOL, nodes.serve)
        catalog = Catalog(host.id, host.links.link)
        announcer = Announcer(
            host,
            host.topics,
            catalog,
            Offered(registration, worker).projects,
            topic=offers.topic(config.topic),
            node_type=NodeType.DIRECTORY,
        )
        registration.on_change(announcer.changed)
        directory = Directory(nodes, host.links, host.topics, catalog, announcer, network=config.topic, enabled=enabled)
        async with open_directory(directory, nodes, host.links, host.topics, store or MemoryOffers()):
            yield Member(host, registration, nodes, directory)


class Killable:
    """A node that can end without a word, as one that is killed: the system closes its connections."""

    def __init__(self, member: Member, scope: trio.CancelScope, ended: trio.Event) -> None:
        self.member = member
        self._scope = scope
        self._ended = ended

    async def kill(self) -> None:
        self.member.directory.announcer._left = True  # nothing more is said
        self._scope.cancel()
        await self._ended.wait()


@asynccontextmanager
async def killable(*, key: Key | None = None) -> AsyncIterator[Killable]:
    """A node that ends with the block if it was not killed before."""
    ended = trio.Event()

    async def live(task_status: trio.TaskStatus[Killable]) -> None:
        with trio.CancelScope() as scope:
            async with open_member(key=key) as member:
                task_status.started(Killable(member, scope, ended))
                await trio.sleep_forever()
        ended.set()

    async with trio.open_nursery() as nursery:
        yield await nursery.start(live)
        nursery.cancel_scope.cancel()
