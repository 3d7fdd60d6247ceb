"""Closing connections that are of little use when there are many, so that there is always room for better ones."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence

import trio
from libp2p.peer.id import ID

from aicn.p2p.connection import Connection

log = logging.getLogger(__name__)

GRACE_S = 20.0  # a new connection is spared as long: identify has to tell first what the peer is good for (go: 20 s)
_EVERY_S = 1.0  # between looks; meanwhile new connections find the last quarter of the places


class Trimmer:
    """When three quarters of the `most` connections that may be are open, closes the least useful ones, down to three fifths.

    These are second connections of a peer, then those of peers of little value, inbound before outbound, the newest first: whoever
    floods us is new. Never closed: those of protected peers, those with a request on them, those in their first GRACE_S.
    """

    def __init__(
        self, connections: Callable[[], Sequence[Connection]], value: Callable[[ID], int], *, most: int
    ) -> None:
        self._connections = connections
        self._value = value  # how useful a peer is
        self._high = most * 3 // 4  # below what inbound connections alone may take (limits.py)
        self._low = most * 3 // 5
        self._protected: defaultdict[ID, set[str]] = defaultdict(set)

    def protect(self, peer: ID, tag: str) -> None:
        """Spare the connections of `peer` until the same `tag` is taken away again; each reason has a tag of its own."""
        self._protected[peer].add(tag)

    def unprotect(self, peer: ID, tag: str) -> None:
        """Take a protection away; does nothing when there is none."""
        tags = self._protected.get(peer, set())
        tags.discard(tag)
        if not tags:
            self._protected.pop(peer, None)

    def is_protected(self, peer: ID) -> bool:
        return peer in self._protected

    async def run(self) -> None:
        """Look from time to time, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(_EVERY_S)
                surplus = self.surplus()
                if surplus:
                    log.debug("closing %d connections of little use", len(surplus))
                for connection in surplus:
                    nursery.start_soon(connection.close)

    def surplus(self) -> list[Connection]:
        """The connections to close now, the least useful first."""
        connections = self._connections()
        if len(connections) <= self._high:
            return []
        newest = {one.peer: one for one in sorted(connections, key=lambda one: one.number)}
        young = trio.current_time() - GRACE_S
        candidates = [
            one for one in connections if one.opened_at <= young and not one.in_use and not self.is_protected(one.peer)
        ]
        candidates.sort(key=lambda one: (newest[one.peer] is one, self._value(one.peer), one.dialled, -one.number))
        return candidates[: len(connections) - self._low]
