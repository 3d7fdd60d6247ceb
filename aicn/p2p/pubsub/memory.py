"""What is remembered of messages, sans-io: which were seen, and the latest ones for whom they did not reach."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from libp2p.peer.id import ID

SEEN_S = 120.0  # how long a message that comes again is known, as go
_MOST_SEEN = 100_000  # ids: about 20 MB
HISTORY = 5  # heartbeats that a message can be asked for, as go
GOSSIP = 3  # heartbeats that it is told of
_MOST_BYTES = 64 << 20  # of all messages that can be asked for; the oldest go first
_MOST_MESSAGES = 20_000
_MOST_REPEATS = 3  # how often one peer gets the same message by asking


class Seen:
    """Ids of messages for SEEN_S; when there are too many, the oldest are forgotten earlier."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, message: bytes) -> bool:
        return message in self._until

    def add(self, message: bytes, now: float) -> None:
        self._until[message] = now + SEEN_S
        if len(self._until) > _MOST_SEEN:
            self._until.popitem(last=False)

    def expire(self, now: float) -> None:
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)


@dataclass(slots=True)
class _Entry:
    topic: str
    frame: bytes
    given: Counter[ID] = field(default_factory=Counter)  # to whom, how often


class Recent:
    """The messages of the last heartbeats, as they travel."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._windows: deque[list[bytes]] = deque([[]], maxlen=HISTORY)  # ids, the current heartbeat's first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, message: bytes, topic: str, frame: bytes) -> None:
        """A message that was not seen before."""
        self._entries[message] = _Entry(topic, frame)
        self._windows[0].append(message)
        self._bytes += len(frame)
        while self._bytes > _MOST_BYTES or len(self._entries) > _MOST_MESSAGES:
            self._drop(next(iter(self._entries)))

    def ids(self, topic: str, most: int) -> list[bytes]:
        """The latest messages of a topic that others are told of."""
        known = (
            one
            for window in list(self._windows)[:GOSSIP]
            for one in reversed(window)
            if one in self._entries and self._entries[one].topic == topic
        )
        return [one for one, _ in zip(known, range(most), strict=False)]

    def give(self, message: bytes, peer: ID) -> bytes | None:
        """The message for a peer that asks for it; None: it is gone, or the peer had it often enough."""
        entry = self._entries.get(message)
        if entry is None or entry.given[peer] >= _MOST_REPEATS:
            return None
        entry.given[peer] += 1
        return entry.frame

    def shift(self) -> None:
        """A heartbeat has passed."""
        if len(self._windows) == HISTORY:
            for message in self._windows[-1]:
                self._drop(message)
        self._windows.appendleft([])

    def _drop(self, message: bytes) -> None:
        entry = self._entries.pop(message, None)
        if entry is not None:
            self._bytes -= len(entry.frame)
