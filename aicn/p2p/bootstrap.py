"""The peers that a node joins the network through: connected from the start, and again whenever the connection ends."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable

import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.errors import AicnError
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 8.0  # a node that is back is found within 12 s; a refused dial costs next to nothing


async def keep_connected(swarm: Swarm, peers: Iterable[tuple[ID, Multiaddr]]) -> None:
    """Keep a connection to each of `peers` until cancelled."""
    async with trio.open_nursery() as nursery:
        by_peer: dict[ID, list[Multiaddr]] = {}
        for peer, address in peers:
            if peer != swarm.own_id:  # a node may be in the list that it shares with others
                by_peer.setdefault(peer, []).append(address)
        for peer, known in by_peer.items():
            nursery.start_soon(_keep_one, swarm, peer, known)


async def _keep_one(swarm: Swarm, peer: ID, known: list[Multiaddr]) -> None:
    delay = _FIRST_DELAY_S
    swarm.trimmer.protect(peer, "bootstrap")
    while True:
        swarm.book.add_addrs(peer, known)
        try:
            connection = await swarm.connect(peer, force=True)
        except AicnError as error:
            log.log(logging.INFO if delay == _FIRST_DELAY_S else logging.DEBUG, "bootstrap peer: %s", error.message)
        else:
            log.info("connected to bootstrap peer %s", peer)
            delay = _FIRST_DELAY_S
            await connection.event_closed.wait()
        await trio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter: a network must not come back at once
        delay = min(delay * 2, _LONGEST_DELAY_S)
