"""The library's host and the services that run on it, fitted into our nurseries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import Service
from libp2p.tools.anyio_service.trio_manager import TrioManager
from multiaddr import Multiaddr

from aicn.p2p import addresses
from aicn.p2p.identify import Identify
from aicn.p2p.protocols import Protocols
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_RESTART_S = 1.0  # before a part of a service that broke runs again


class LibraryHost(BasicHost):
    """What identify, DHT and pubsub take for the host.

    In place of what upstream's does: identify is ours (identify.py) and runs in the swarm's nursery, not in system tasks
    (host/basic_host.py:1183), and again after each connecting, not only while the peer is unknown (:1218); 0.0.0.0 is not advertised.
    """

    def __init__(
        self, swarm: Swarm, protocols: Protocols, *, announce: Sequence[Multiaddr], agent_version: str
    ) -> None:
        self._swarm = swarm
        self._announce = tuple(announce)
        self.circuits: Callable[[], Sequence[Multiaddr]] = tuple  # this node's addresses through relays
        self.learnt: Callable[[], Sequence[Multiaddr]] = tuple  # what peers and routers say of this node's addresses
        self.identified: Callable[[ID], Awaitable[None]] | None = None  # told of each peer that has said who it is
        super().__init__(swarm, disable_identify_address_discovery=True)
        protocols.attach(self.multiselect)
        self.identify = Identify(self, swarm, swarm.book, protocols, agent_version=agent_version)
        self.identify.updated = self._tell_identified

    def advertised(self) -> list[Multiaddr]:
        """Where others may reach this node, without its peer id."""
        return [*self.direct(), *self.circuits()]

    def direct(self) -> list[Multiaddr]:
        """Those of them that do not lead through a relay."""
        return list(self._announce) or list(dict.fromkeys((*self.configured(), *self.learnt())))

    def configured(self) -> list[Multiaddr]:
        """Those of them for which nobody's word is needed: announced, or of our interfaces."""
        return list(self._announce) or self._swarm.own_addresses()

    def get_addrs(self) -> list[Multiaddr]:
        suffix = Multiaddr(f"/p2p/{self.get_id()}")
        return [addresses.without_peer(one).encapsulate(suffix) for one in self.advertised()]

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        if peer_id not in self._identify_inflight and peer_id not in self._identified_peers:
            self._identify_inflight.add(peer_id)
            self._swarm.nursery.start_soon(self._identify_task_entry, peer_id, reason)

    async def _identify_peer(self, peer_id: ID, *, reason: str) -> None:
        connection = self._swarm.live(peer_id)
        if connection is not None and await self.identify.ask(connection) and not connection.is_closed:
            self._identified_peers[peer_id] = reason
            await self._tell_identified(peer_id)

    async def _tell_identified(self, peer_id: ID) -> None:
        if self.identified is not None:
            await self.identified(peer_id)


class ServiceManager(TrioManager):
    """Runs one of the library's services so that no message of a peer ends it.

    Upstream (tools/anyio_service/trio_manager.py:310) ends the whole service when one of its tasks, such as the one that looks at
    one pubsub message, lets an exception out. Test: tests/unit/p2p/test_library.py.
    """

    def run_task(
        self, async_fn: Any, *args: Any, daemon: bool = False, name: str | None = None, _internal: bool = False
    ) -> None:
        async def guarded() -> object:
            while True:
                try:
                    return await async_fn(*args)
                except Exception as error:
                    if not daemon:  # junk of a peer, mostly: no reason to fill the log
                        log.debug("a task of %s broke: %r", self._service, error)
                        return None
                    log.exception("a part of %s broke", self._service)
                await trio.sleep(_RESTART_S)

        super().run_task(guarded, daemon=daemon, name=name or getattr(async_fn, "__name__", None), _internal=_internal)


async def run_service(service: Service, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Run a service of the library until cancelled."""
    manager = ServiceManager(service)
    service._manager = manager  # noqa: SLF001 - as upstream's background_trio_service does
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.run)
        await manager.wait_started()
        task_status.started()
