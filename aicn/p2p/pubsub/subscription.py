"""What a service of this node hears of a topic."""

from __future__ import annotations

import logging
from collections import deque

import trio

from aicn.domain.nodes import Message

log = logging.getLogger(__name__)

_MOST_MESSAGES = 4096  # what a network of thousands of nodes says at once
_MOST_BYTES = 32 << 20


class Subscription:
    """Messages in the order in which they came, to be read with `receive` or `async for`.

    When its reader is too slow the oldest ones are dropped and counted in `lost`: what a network says grows old.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.lost = 0
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._filled = trio.Event()

    def put(self, message: Message) -> None:
        """Called by the topics' service."""
        self._messages.append(message)
        self._bytes += _size(message)
        while len(self._messages) > _MOST_MESSAGES or self._bytes > _MOST_BYTES:
            self._bytes -= _size(self._messages.popleft())
            self.lost += 1
            if self.lost & (self.lost - 1) == 0:  # powers of two: not a line per message
                log.warning("topic %s: %d messages were lost, their reader is too slow", self.topic, self.lost)
        self._filled.set()

    async def receive(self) -> Message:
        """The next message."""
        while not self._messages:
            self._filled = trio.Event()
            await self._filled.wait()
        message = self._messages.popleft()
        self._bytes -= _size(message)
        await trio.lowlevel.checkpoint()
        return message

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()


def _size(message: Message) -> int:
    return len(message.data) + len(message.signed)
