"""Peers whose connection broke are dialled again: go peers cannot find us by the port that we dialled them from, nor do they all try.

Not those that have said goodbye, or were told it, and not those that nothing says can be dialled, such as clients behind a router.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import AicnError
from aicn.p2p import addresses
from aicn.p2p.background import step
from aicn.p2p.connection import Connection
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0  # doubled from try to try
_PATIENCE_S = 120.0  # a restart takes less; who comes later is found by rendezvous, or finds us
_BRIEF_S = 60.0  # a connection that lasts less was not wanted by the peer, or the peer is not well:
_MOST_BRIEF = 4  # of them in a row, and it is left alone
_MOST_REMEMBERED = 4096  # peers with brief connections
_MOST_AT_ONCE = 64  # peers that are being dialled; the others of a whole network that went away come by themselves


def where_it_listens(swarm: Swarm, connection: Connection) -> list[Multiaddr]:
    """Addresses that the peer of an accepted connection says it has, at the IP address that it came from.

    It can be dialled there unless a router is between us. Others are hearsay, and could make us dial whomever it likes.
    """
    if connection.remote is None or connection.relayed:
        return []
    came_from = addresses.ip_of(connection.remote)
    direct = (one for one in swarm.candidates(connection.peer) if not addresses.is_circuit(one))
    return [one for one in direct if addresses.ip_of(one) == came_from]


class Redial:
    """Goes after lost peers of interest."""

    def __init__(self, swarm: Swarm, wanted: Callable[[ID], bool]) -> None:
        self._swarm = swarm
        self._wanted = wanted  # whether a connection to the peer is worth the trouble
        self._at_work: set[ID] = set()
        self._brief: dict[ID, int] = {}  # connections in a row, by peer; the newest at the end

    def lost(self, connection: Connection) -> None:
        """The last connection to a peer has ended."""
        peer = connection.peer
        if connection.muxer.orderly or peer in self._at_work or len(self._at_work) >= _MOST_AT_ONCE:
            return
        if not self._wanted(peer) or not (connection.dialled or where_it_listens(self._swarm, connection)):
            return
        brief = self._brief.pop(peer, 0) + 1 if trio.current_time() - connection.opened_at < _BRIEF_S else 0
        if brief:
            self._brief[peer] = brief
            if len(self._brief) > _MOST_REMEMBERED:
                del self._brief[next(iter(self._brief))]
        if brief <= _MOST_BRIEF:
            self._at_work.add(peer)
            self._swarm.nursery.start_soon(step, f"dialling {peer} again", partial(self._dial, peer))

    async def _dial(self, peer: ID) -> None:
        pause = _FIRST_PAUSE_S
        try:
            with trio.move_on_after(_PATIENCE_S):
                while True:
                    await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter: not all at once
                    try:
                        await self._swarm.connect(peer, force=True)
                    except AicnError as error:
                        log.debug("lost peer: %s", error.message)
                    else:
                        log.info("connected to %s again", peer)
                        return
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            self._at_work.discard(peer)
