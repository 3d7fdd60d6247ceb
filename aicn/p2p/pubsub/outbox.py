"""What is to be sent to one peer: bounded, paced."""

from __future__ import annotations

from collections import deque

import trio

from aicn.p2p.pubsub.bucket import Bucket
from aicn.p2p.pubsub.messages import LARGEST_RPC

# Go's validation queue holds 32 messages and silently drops what comes beyond: one per millisecond gets all of them through.
RATE, BURST = 1000.0, 16.0  # messages per second, and at once
_MOST_MESSAGES = 4096  # four seconds at that rate
_MOST_BYTES = 16 << 20  # the messages are shared with the outboxes of other peers
_MOST_CONTROL = 64  # RPCs without messages; a heartbeat makes one


class Outbox:
    """Frames for one peer. What does not fit is lost to this peer, who reads slower than its network speaks: the newest."""

    def __init__(self) -> None:
        self.lost = 0  # messages
        self._control: deque[bytes] = deque(maxlen=_MOST_CONTROL)  # the oldest are void when there are that many
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._pace = Bucket(rate=RATE, burst=BURST)
        self._filled = trio.Event()
        self._emptied = trio.Event()

    def __len__(self) -> int:
        return len(self._messages)

    def add_message(self, frame: bytes) -> None:
        """A frame that holds one message."""
        if len(self._messages) >= _MOST_MESSAGES or self._bytes + len(frame) > _MOST_BYTES:
            self.lost += 1
            return
        self._messages.append(frame)
        self._bytes += len(frame)
        self._filled.set()

    def add_control(self, frame: bytes) -> None:
        """A frame without messages: it goes first."""
        self._control.append(frame)
        self._filled.set()

    def drop_control(self) -> None:
        """Forget what belongs to a stream that broke."""
        self._control.clear()

    def drop_messages(self) -> None:
        """Forget what is too old to be sent."""
        self._messages.clear()
        self._bytes = 0
        self._emptied.set()

    async def emptied(self) -> None:
        """Waits until all messages have been taken, or dropped."""
        while self._messages:
            self._emptied = trio.Event() if self._emptied.is_set() else self._emptied
            await self._emptied.wait()

    async def take(self) -> bytes:
        """What may be sent now, at least one frame; waits for it."""
        while not self._control:
            if self._messages:
                await self._pace.wait(1.0)
                break
            self._filled = trio.Event()
            await self._filled.wait()
        parts = [self._control.popleft() for _ in range(len(self._control))]
        size = sum(map(len, parts))
        while self._messages and self._pace.left() >= 1.0 and (not parts or size < LARGEST_RPC):
            frame = self._messages.popleft()
            self._bytes -= len(frame)
            self._pace.spend(1.0)
            parts.append(frame)
            size += len(frame)
        if not self._messages:
            self._emptied.set()
        return b"".join(parts)
