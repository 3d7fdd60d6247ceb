"""Which protocols a peer is asked in: this program's own, or those of the existing network.

THE place where that is decided, by what identify says of the present connection:

    it serves one of ours            NATIVE     also when it serves the others as well
    it serves `/chat-proxy/0.0.1`    PROXY      chats over streams, the rest over the topic
    neither, but it is heard there   TOPIC      everything over the topic
    nothing of all that              NATIVE     whose refusal says so
    it cannot be dialled, but heard  TOPIC      behind a router, or connected to others only
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Connectivity
from aicn.errors import DeadlineExceeded, UnknownNode, Unreachable
from aicn.services.ports import Links, Peers
from aicn.wire import control, inference
from aicn.wire.legacy import chat_proxy

_IDENTIFY_S = 5.0  # for a connected peer to say what it serves; go asks and answers at once
_DIAL_S = 5.0  # for a peer that can be asked over the topic as well
_NO_DIAL_S = 60.0  # during which it is not dialled again when that has failed
_MOST_UNDIALLED = 1024  # of which that is remembered

_NATIVE = frozenset({control.PROTOCOL, inference.PROTOCOL})


class Dialect(Enum):
    """What a peer is asked in."""

    NATIVE = "native"
    PROXY = "chat-proxy"
    TOPIC = "topic"


class Dialects:
    """Remembers the dialect of each connected peer: where nothing changes, asking costs one look into a dict."""

    def __init__(self, peers: Peers, links: Links, heard: Callable[[PeerId], bool]) -> None:
        """`heard`: whether a peer is known to be on the existing network's topic."""
        self._peers = peers
        self._links = links
        self._heard = heard
        self._known: dict[PeerId, Dialect] = {}  # of connected peers
        self._undialled: dict[PeerId, float] = {}  # until when; the oldest first
        self._awaited: dict[PeerId, trio.Event] = {}  # peers that are to be identified, or gone
        links.on_joined(self._joined)
        links.on_lost(self._lost)

    async def of(self, peer: PeerId) -> Dialect:
        """The dialect to ask `peer` in; it is connected then, or can be asked over the topic alone.

        UnknownNode, Unreachable or DeadlineExceeded, for peers that are not heard on the topic either.
        """
        known = self._known.get(peer)
        return known if known is not None else await self._find(peer)

    async def _find(self, peer: PeerId) -> Dialect:
        if not await self._reached(peer):
            return Dialect.TOPIC
        await self._identified(peer)
        if not self._connected(peer):  # it has hung up meanwhile
            if not self._heard(peer):
                raise Unreachable(f"peer {peer} ended its connection before it was known what it speaks")
            return Dialect.TOPIC
        if self._links.is_identified(peer) and (found := _spoken(self._links.protocols_of(peer))) is not None:
            self._known[peer] = found
            return found
        return Dialect.TOPIC if self._heard(peer) else Dialect.NATIVE

    async def _reached(self, peer: PeerId) -> bool:
        """Whether there is a connection to `peer`; False: there is none, but it is heard on the topic."""
        if self._connected(peer):
            return True
        if not self._heard(peer):
            await self._peers.reach(peer)
            return True
        if trio.current_time() < self._undialled.get(peer, 0.0):
            return False
        with trio.move_on_after(_DIAL_S), suppress(UnknownNode, Unreachable, DeadlineExceeded):
            await self._peers.reach(peer)
            return True
        self._undialled.pop(peer, None)
        self._undialled[peer] = trio.current_time() + _NO_DIAL_S
        if len(self._undialled) > _MOST_UNDIALLED:
            del self._undialled[next(iter(self._undialled))]
        return False

    async def _identified(self, peer: PeerId) -> None:
        """Returns when identify has told what the connected peer serves, when the peer has gone, or when that takes too long."""
        if self._links.is_identified(peer):
            return
        event = self._awaited.setdefault(peer, trio.Event())
        try:
            with trio.move_on_after(_IDENTIFY_S):
                await event.wait()
        finally:
            if not event.statistics().tasks_waiting and self._awaited.get(peer) is event:
                del self._awaited[peer]

    def _connected(self, peer: PeerId) -> bool:
        return self._links.link(peer).connectivity is Connectivity.CONNECTED

    def _joined(self, peer: PeerId) -> None:
        self._undialled.pop(peer, None)
        found = _spoken(self._links.protocols_of(peer))
        if found is None:
            self._known.pop(peer, None)
        else:
            self._known[peer] = found
        self._wake(peer)

    def _lost(self, peer: PeerId) -> None:
        self._known.pop(peer, None)
        self._wake(peer)

    def _wake(self, peer: PeerId) -> None:
        if (event := self._awaited.pop(peer, None)) is not None:
            event.set()


def _spoken(protocols: frozenset[str]) -> Dialect | None:
    if not _NATIVE.isdisjoint(protocols):
        return Dialect.NATIVE
    return Dialect.PROXY if chat_proxy.PROTOCOL in protocols else None
