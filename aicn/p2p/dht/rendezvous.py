"""Meeting the others of a topic: each announces itself as a provider of the topic's name, and looks up who else does.

As the routing discovery of go-libp2p does: the key is the sha2-256 multihash of the name (its CIDv1 is of the raw codec).
"""

from __future__ import annotations

import hashlib
import logging
import random
from functools import partial

import trio

from aicn.errors import AicnError
from aicn.p2p.background import step
from aicn.p2p.dht.service import Dht
from aicn.p2p.dht.wire import Found
from aicn.p2p.swarm import Swarm

log = logging.getLogger(__name__)

_WANTED = 8  # peers to be connected to; who has as many dials nobody: the topic's mesh needs 6
_ASKED_FOR = 50  # providers per search; of these a few at random are dialled
_FIRST_S = 10.0  # before the first search: those who start together announce themselves first. Doubled up to
_LONGEST_S = 300.0


def rendezvous_key(topic: str) -> bytes:
    """The DHT key that the members of `topic` provide: the multihash 12 20 <sha2-256 of the name>."""
    return b"\x12\x20" + hashlib.sha256(topic.encode()).digest()


async def meet(dht: Dht, swarm: Swarm, topic: str) -> None:
    """Announce this node under `topic`, and stay connected to a few others that do, until cancelled."""
    key = rendezvous_key(topic)
    dht.provide(key)
    pause = _FIRST_S
    while True:
        await trio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        await step("meeting peers of the topic", partial(connect_to_some, dht, swarm, key))
        pause = min(pause * 2, _LONGEST_S)


async def connect_to_some(dht: Dht, swarm: Swarm, key: bytes) -> None:
    """Dial providers of `key` until there are connections to `_WANTED` peers; at most as many dials as connections are missing."""
    missing = _WANTED - len(swarm.connections)
    if missing <= 0:
        return
    found = [one for one in await dht.find_providers(key, most=_ASKED_FOR) if not swarm.is_connected(one.peer)]
    async with trio.open_nursery() as nursery:
        for one in random.sample(found, min(missing, len(found))):
            nursery.start_soon(_try, swarm, one)


async def _try(swarm: Swarm, one: Found) -> None:
    try:
        await swarm.connect(one.peer, lookup=not one.addresses)
    except AicnError as error:
        log.debug("peer of the rendezvous: %s", error.message)
