"""The questions of others that are being answered: which, and how many and how large they may be."""

from __future__ import annotations

from collections import defaultdict

import trio

from aicn.domain.ids import PeerId
from aicn.errors import Busy
from aicn.services.arrivals import Arrivals
from aicn.wire.legacy.envelope import Envelope

_MOST = 2048
_MOST_OF_ONE = 512  # asker, which may be an input node with many clients; the queue of a model is shorter
_BYTES, _BYTES_OF_ONE = 64 << 20, 16 << 20  # of their bodies, which the way to the model copies some times


class AtWork:
    """Questions by asker and id."""

    def __init__(self) -> None:
        self._ids: defaultdict[PeerId, set[str]] = defaultdict(set)
        self._total = 0
        self._bytes = Arrivals(total=_BYTES, per_peer=_BYTES_OF_ONE)
        self._none = trio.Event()
        self._none.set()

    def has(self, question: Envelope) -> bool:
        return question.sender in self._ids and question.id in self._ids[question.sender]

    def enter(self, question: Envelope) -> None:
        """Busy: there are too many, or they are too large. Otherwise `leave` ends it."""
        if self._total >= _MOST or (question.sender in self._ids and len(self._ids[question.sender]) >= _MOST_OF_ONE):
            raise Busy("too many questions at once")
        try:
            self._bytes.add(question.sender, len(question.body))
        except Busy:
            self._bytes.release(question.sender, len(question.body))
            raise
        self._ids[question.sender].add(question.id)
        self._total += 1
        if self._total == 1:
            self._none = trio.Event()

    def leave(self, question: Envelope) -> None:
        self._bytes.release(question.sender, len(question.body))
        self._ids[question.sender].remove(question.id)
        if not self._ids[question.sender]:
            del self._ids[question.sender]
        self._total -= 1
        if not self._total:
            self._none.set()

    async def empty(self) -> None:
        """Returns when there are none."""
        await self._none.wait()
