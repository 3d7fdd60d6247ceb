"""Topics in memory: members that hear what the others publish, at once and in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from aicn.domain.ids import PeerId
from aicn.domain.nodes import Message
from aicn.errors import InvalidRequest, TooLarge
from aicn.p2p.pubsub.messages import LARGEST_RPC
from aicn.p2p.pubsub.subscription import Subscription


class MemoryPubsub:
    """Everybody is connected to everybody."""

    def __init__(self) -> None:
        self.members: dict[PeerId, MemoryTopics] = {}
        self.said: list[Message] = []  # by everybody

    def member(self, peer: PeerId) -> MemoryTopics:
        self.members[peer] = MemoryTopics(peer, self)
        return self.members[peer]


class MemoryTopics:
    """Fits `services.ports.Topics`. `failure`, when set, is what publishing raises."""

    def __init__(self, own: PeerId, pubsub: MemoryPubsub) -> None:
        self._own = own
        self._pubsub = pubsub
        self._accept: dict[str, Callable[[Message], bool]] = {}
        self._subscriptions: defaultdict[str, list[Subscription]] = defaultdict(list)
        self.failure: Exception | None = None
        self.refused: list[Message] = []

    def join(self, topic: str, accept: Callable[[Message], bool]) -> None:
        if topic in self._accept:
            raise InvalidRequest(f"topic: {topic} is joined already")
        self._accept[topic] = accept

    @contextmanager
    def subscribe(self, topic: str) -> Iterator[Subscription]:
        subscription = Subscription(topic)
        self._subscriptions[topic].append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[topic].remove(subscription)

    async def publish(self, topic: str, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if len(data) > LARGEST_RPC - 1024:
            raise TooLarge(f"a message of {len(data)} bytes")
        message = Message(topic, self._own, data)
        self._pubsub.said.append(message)
        for peer, member in self._pubsub.members.items():
            if peer != self._own:
                member.hear(message)
        return data

    def hear(self, message: Message) -> None:
        accept = self._accept.get(message.topic)
        if accept is None:
            return
        if not accept(message):
            self.refused.append(message)
            return
        for subscription in self._subscriptions[message.topic]:
            subscription.put(message)

    def subscribers(self, topic: str) -> Sequence[PeerId]:
        return [peer for peer, member in self._pubsub.members.items() if topic in member._accept and peer != self._own]

    def on_member(self, tell: Callable[[str, PeerId], None]) -> None:
        raise NotImplementedError("nobody comes later here")

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    def verify(self, signed: bytes) -> Message:
        raise NotImplementedError("nothing is handed on outside pubsub here")
