"""Our host connected to a Go peer, and as a member of the topic."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from aicn.p2p.host import Host
from aicn.p2p.pubsub.subscription import Subscription
from tests.fakes.hosts import CONFIG, full_address, open_test_host, until
from tests.interop.exchanges import Exchanges
from tests.interop.gopeer import EVENT_S, GoPeer, open_go_peer

Side = Literal["ours", "go"]


@dataclass
class Pair:
    host: Host
    go: GoPeer
    ours: Exchanges


@asynccontextmanager
async def open_pair(program: Path, *flags: str, dialler: Side = "ours", **changes: object) -> AsyncIterator[Pair]:
    """Our host, with `changes` of its configuration, and a Go peer with `flags`; one has dialled the other."""
    async with open_go_peer(program, *flags) as go, open_test_host(**changes) as host:
        pair = Pair(host, go, Exchanges(host))
        if dialler == "ours":
            await host.connect(go.address)
        else:
            await go("connect", address=full_address(host))
        yield pair


class Member:
    """Our host as a member of the topic: what it says, and what it hears from others."""

    def __init__(self, host: Host, subscription: Subscription) -> None:
        self.id = host.id
        self._topics = host.topics
        self._subscription = subscription

    async def publish(self, *, count: int, size: int, pause_s: float = 0) -> list[str]:
        """Say `count` things of `size` bytes; their SHA-256."""
        said = [os.urandom(size) for _ in range(count)]
        for data in said:
            await self._topics.publish(self._subscription.topic, data)
            await trio.sleep(pause_s)
        return [hashlib.sha256(data).hexdigest() for data in said]

    async def hear(self, sender: str, said: list[str]) -> None:
        """Hear these from the sender next, each once, in any order."""
        heard: Counter[tuple[str, str]] = Counter()
        with trio.fail_after(EVENT_S):
            for _ in said:
                message = await self._subscription.receive()
                heard[message.sender, hashlib.sha256(message.data).hexdigest()] += 1
        assert heard == Counter((sender, digest) for digest in said)

    async def meet(self, go: GoPeer) -> None:
        """Until both know of each other's membership."""
        await go.until(lambda peers: self.id in peers, "topic-peers")
        await until(lambda: go.id in self._topics.subscribers(self._subscription.topic), seconds=EVENT_S)


@contextmanager
def member(host: Host) -> Iterator[Member]:
    with host.topics.subscribe(CONFIG.topic) as subscription:
        yield Member(host, subscription)
