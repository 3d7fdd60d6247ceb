"""Membership in the network's pubsub topic."""

from __future__ import annotations

import time
from typing import Any, Literal

import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.pubsub.floodsub import FloodSub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import Service

from aicn.p2p.library import run_service

_FLOODSUB = TProtocol("/floodsub/1.0.0")
_GOSSIPSUB = (TProtocol("/meshsub/1.1.0"), TProtocol("/meshsub/1.0.0"), _FLOODSUB)


class Topic:
    """This node as a member of one topic: it forwards the topic's messages, and lets its own copies go."""

    def __init__(self, host: IHost, name: str, *, router: Literal["gossipsub", "floodsub"]) -> None:
        self._name = name
        self._router: FloodSub | GossipSub
        if router == "floodsub":
            self._router = FloodSub([_FLOODSUB])
        else:
            # Degrees as in go. Heartbeat: go's second instead of two minutes (pubsub/gossipsub.py:179). The spam protection drops what
            # goes beyond 10 messages a second per peer, our own included (:190, :975).
            self._router = GossipSub(
                _GOSSIPSUB, degree=6, degree_low=5, degree_high=12, heartbeat_interval=1, spam_protection_enabled=False
            )
        self._pubsub = Pubsub(host, self._router, strict_signing=True)
        # Upstream counts from the seconds of the clock (pubsub/pubsub.py:478): a node that sent more than one message per second
        # repeats its sequence numbers after a restart, and js peers drop numbers with leading zero bytes.
        self._pubsub.counter = time.time_ns()

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Be a member until cancelled."""
        async with trio.open_nursery() as nursery:
            if isinstance(self._router, Service):
                await nursery.start(run_service, self._router)
            await nursery.start(run_service, self._pubsub)
            subscription = await self._pubsub.subscribe(self._name)
            task_status.started()
            async for _ in subscription:
                pass
