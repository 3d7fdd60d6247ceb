"""What a node remembers of its network: addresses that were good, or should be, tried again at the next start.

Written in batches by one task, off the way of whoever dials. A crash loses the last WRITE_S seconds and nothing else.
"""

from __future__ import annotations

import logging
import time
from functools import partial

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.domain.nodes import DialOutcome
from aicn.errors import AicnError, InvalidRequest, StorageError
from aicn.p2p import addresses
from aicn.p2p.redial import where_it_listens
from aicn.p2p.swarm import Swarm
from aicn.services.ports import AddressBook

log = logging.getLogger(__name__)

WRITE_S = 2.0  # between the first outcome and the write that it goes into
_MOST_PENDING = 1024  # outcomes that wait for it; later ones are lost, which costs a retry some day
_MOST_HEARD = 2  # addresses of a peer that came to us
_LAST_WRITE_S = 2.0  # for what is left when the node stops
_HEAD_START_S = 1.0  # of bootstrap peers over remembered ones
_MOST_TRIED = 64  # addresses per round
_AT_ONCE = 4  # peers
_ALONE_S = 30.0  # between rounds while nobody is connected
_KNOWN_S = 86_400  # how long a remembered address is a candidate without a connection


class History:
    """Writes down how dials end, and goes back to old acquaintances."""

    def __init__(self, swarm: Swarm, book: AddressBook) -> None:
        self._swarm = swarm
        self._book = book
        self._pending: list[DialOutcome] = []
        self._something = trio.Event()

    def note(self, peer: ID, address: Multiaddr, reached: bool) -> None:
        """A dial of `address` has ended; waits for nothing."""
        self._note(peer, address, reached)

    def _note(self, peer: ID, address: Multiaddr, reached: bool | None) -> None:
        if len(self._pending) < _MOST_PENDING:
            self._pending.append(DialOutcome(PeerId(str(peer)), str(address), time.time(), reached))
            self._something.set()

    def met(self, peer: ID) -> None:
        """A connected peer has said where it listens; if we have not dialled it, that is all we know when we come back."""
        for connection in self._swarm.connections.get(peer, ()):
            if not connection.dialled:
                for address in where_it_listens(self._swarm, connection)[:_MOST_HEARD]:
                    self._note(peer, address, reached=None)

    async def run(self) -> None:
        """Write until cancelled; go back to remembered peers at the start, and whenever nobody is connected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await trio.sleep(_HEAD_START_S)
            await self._go_back()
            while True:
                await trio.sleep(_ALONE_S)
                if not self._swarm.connections:
                    await self._go_back()

    async def _write(self) -> None:
        try:
            while True:
                await self._something.wait()
                await trio.sleep(WRITE_S)
                await self._flush()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WRITE_S):
                await self._flush()

    async def _flush(self) -> None:
        outcomes, self._pending = self._pending, []
        self._something = trio.Event()
        try:
            await self._book.record(outcomes)
        except StorageError as error:
            log.warning("addresses of peers were not written down: %s", error.message)

    async def _go_back(self) -> None:
        """Dial the remembered peers that are not connected, a few at a time."""
        remembered = await self._remembered()
        turns = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for peer, known in remembered.items():
                self._swarm.book.add_addrs(peer, known, _KNOWN_S)
                if not self._swarm.is_connected(peer):
                    nursery.start_soon(partial(self._dial, peer, turns))

    async def _dial(self, peer: ID, turns: trio.CapacityLimiter) -> None:
        async with turns:
            try:
                await self._swarm.connect(peer)
            except AicnError as error:
                log.debug("remembered peer: %s", error.message)
            else:
                log.info("connected to remembered peer %s", peer)

    async def _remembered(self) -> dict[ID, list[Multiaddr]]:
        found: dict[ID, list[Multiaddr]] = {}
        try:
            rows = await self._book.load(_MOST_TRIED)
        except StorageError as error:
            log.warning("addresses of peers were not read: %s", error.message)
            return found
        for row in rows:
            try:
                peer, address = addresses.split_peer(f"{row.address}/p2p/{row.peer}")
            except InvalidRequest as error:  # what an older version could dial
                log.debug("remembered address: %s", error.message)
                continue
            if peer != self._swarm.own_id:
                found.setdefault(peer, []).append(address)
        return found
