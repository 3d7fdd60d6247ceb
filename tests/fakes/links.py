"""Peers that come and go as a test says: fits `services.ports.Peers.reach` and `Links`."""

from __future__ import annotations

from collections.abc import Callable

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity, Link
from aicn.errors import AicnError, UnknownNode

Tell = Callable[[PeerId], None]


class ScriptedLinks:
    """Who can be dialled is in `dials`: what it serves (None: it never says), or the error of a dial."""

    def __init__(self) -> None:
        self.dials: dict[PeerId, frozenset[str] | AicnError | None] = {}
        self.dial_s = 0.1
        self.dialled: list[PeerId] = []
        self._connected: set[PeerId] = set()
        self._identified: set[PeerId] = set()
        self._protocols: dict[PeerId, frozenset[str]] = {}  # as identify has told, also of connections of before
        self._joined: list[Tell] = []
        self._lost: list[Tell] = []

    # ---- what happens ----

    def connect(self, peer: PeerId) -> None:
        self._connected.add(peer)

    def identify(self, peer: PeerId, *protocols: str) -> None:
        self._identified.add(peer)
        self._protocols[peer] = frozenset(protocols)
        for tell in self._joined:
            tell(peer)

    def join(self, peer: PeerId, *protocols: str) -> None:
        self.connect(peer)
        self.identify(peer, *protocols)

    def lose(self, peer: PeerId) -> None:
        self._connected.discard(peer)
        self._identified.discard(peer)
        for tell in self._lost:
            tell(peer)

    # ---- the seams ----

    async def reach(self, peer: PeerId) -> None:
        if peer in self._connected:
            return
        self.dialled.append(peer)
        await trio.sleep(self.dial_s)
        found = self.dials.get(peer, UnknownNode(f"nobody knows peer {peer}"))
        if isinstance(found, AicnError):
            raise found
        self.connect(peer)
        if found is not None:
            self.identify(peer, *found)

    def link(self, peer: PeerId) -> Link:
        return Link(Connectivity.CONNECTED if peer in self._connected else Connectivity.NOT_CONNECTED, 0.0)

    async def measure(self, peer: PeerId) -> Link:
        try:
            await self.reach(peer)
        except AicnError:
            return Link(Connectivity.CANNOT_CONNECT, 0.0)
        return self.link(peer)

    def protocols_of(self, peer: PeerId) -> frozenset[str]:
        return self._protocols.get(peer, frozenset())

    def is_identified(self, peer: PeerId) -> bool:
        return peer in self._identified

    def agent_of(self, peer: PeerId) -> str:
        return "go/0.1.3" if peer in self._protocols else ""

    def on_joined(self, tell: Tell) -> None:
        self._joined.append(tell)

    def on_lost(self, tell: Tell) -> None:
        self._lost.append(tell)
