"""Usage: what was asked of models through this node, and of its own by other nodes, by hour, key, model and peer.

    begin (limits: quotas.py) ──► Metered ──► end ──► counted in memory ──► written every few seconds, and at the end

The keys' limits live on it. Counted is what has happened, on every surface, at the end of the exchange: also when the client left or
the answer broke. Names of models are taken down only where a node has answered for them: a client cannot fill the table with names of
its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from aicn.domain.inference import InferenceRequest
from aicn.domain.inference import Usage as Tokens
from aicn.domain.keys import Key, is_key_id
from aicn.domain.served import Served
from aicn.domain.usage import DAY_S, HOUR_S, PEER, Counts, Row
from aicn.errors import StorageError
from aicn.services.ports import Answer, UsageStore
from aicn.services.quotas import Lease, Quotas

log = logging.getLogger(__name__)

KEPT_S = 92 * DAY_S  # then an hour is forgotten
WRITE_EVERY_S = 5.0  # what a kill -9 loses at most
MOST_ROWS = 4096  # of one hour; what comes beyond is counted for its key alone


class Metered:
    """One request that is counted; `end` must be called once it is over."""

    def __init__(self, usage: Usage, key_id: str, request: InferenceRequest, lease: Lease | None) -> None:
        self._usage = usage
        self._key_id = key_id
        self._request = request
        self._lease = lease

    def end(self, answer: Answer | None, *, whole: bool, left: bool, sent: int) -> None:
        """It is over. `whole`: with a whole answer; `left`: the client has gone; `sent`: bytes of the answer.

        Where nobody counted tokens and a model may have worked, the key is charged what was reserved.
        """
        request, lease = self._request, self._lease
        told = answer.end.usage if answer is not None and answer.end is not None else None
        counts = _counted(told)
        if told is None and lease is not None and (answer is not None or left):
            counts.estimated_tokens = lease.reserved
        counts.requests, counts.failed, counts.bytes_out = 1, int(not whole), sent
        counts.bytes_in = len(request.body) + sum(len(part.data) for part in request.parts)
        if lease is not None:
            lease.settle(counts.charged)
        if answer is None:
            self._usage.count(self._key_id, "", "", "", counts)
        else:
            self._usage.count(self._key_id, request.project, request.model, answer.node or "", counts)


class Usage:
    """Counts, and enforces what keys may. Made by `open_usage`."""

    def __init__(self, store: UsageStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._quotas = Quotas(clock=clock)
        self._pending: dict[Row, Counts] = {}  # not yet written
        self._hour = 0
        self._rows: set[Row] = set()  # of this hour

    def begin(self, key: Key | None, request: InferenceRequest) -> Metered:
        """Admit the request to what its key may, if it has one. Forbidden, RateLimited."""
        if key is None:
            return Metered(self, "", request, None)
        return Metered(self, key.id, request, self._quotas.enter(key, request.project, request.model, request.body))

    def count(self, key_id: str, project: str, model: str, peer: str, counts: Counts) -> None:
        """Add `counts` to this hour."""
        hour = int(self._clock() // HOUR_S) * HOUR_S
        if hour != self._hour:
            self._hour, self._rows = hour, set()
        row = Row(hour, key_id, project, model, peer)
        if row not in self._rows:
            if len(self._rows) >= MOST_ROWS:
                row = Row(hour, key_id, "", "", "")
            self._rows.add(row)
        pending = self._pending.get(row)
        if pending is None:
            self._pending[row] = counts
        else:
            pending.add(counts)

    def served(self, one: Served) -> None:
        """Count a request that a model of this node has had of another node. Those of this node's own clients `begin` counts."""
        if one.node is None or is_key_id(one.node):
            return
        counts = _counted(one.usage)
        counts.requests, counts.failed = 1, int(bool(one.code))
        project, model = ("", "") if one.code else (one.project, one.model)  # of refused ones the names may be made up
        self.count(PEER, project, model, one.node, counts)

    def forget(self, key_id: str) -> None:
        """The key is revoked: its limits are, too. Its usage stays."""
        self._quotas.forget(key_id)

    async def since(self, at: float, key_id: str | None = None) -> Sequence[tuple[Row, Counts]]:
        """What was used in the hours from the one of Unix time `at` on, of one key or of all. StorageError."""
        hour = max(0, int(at // HOUR_S) * HOUR_S)
        await self.write()
        return [(row, one) for row, one in await self._store.load(hour) if key_id is None or row.key == key_id]

    @staticmethod
    def summed(rows: Iterable[tuple[Row, Counts]]) -> list[tuple[Row, Counts]]:
        """`rows` over all hours, as hour 0."""
        sums: dict[Row, Counts] = {}
        for row, counts in rows:
            sums.setdefault(row._replace(hour=0), Counts()).add(counts)
        return sorted(sums.items(), key=lambda one: one[0])

    async def load(self) -> None:
        """What keys have spent today. StorageError."""
        midnight = int(self._clock() // DAY_S) * DAY_S
        for row, counts in await self._store.load(midnight):
            if row.key:
                self._quotas.spent_before(row.key, counts.charged)

    async def write(self) -> None:
        """Write what is not written. StorageError: it is kept for the next time."""
        if not self._pending:
            return
        writing, self._pending = self._pending, {}
        written = False
        try:
            await self._store.add(writing, forget_before=int(self._clock() - KEPT_S))
            written = True
        finally:
            if not written:
                for row, counts in writing.items():
                    self._pending.setdefault(row, Counts()).add(counts)

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await trio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
            except StorageError as error:
                log.warning("usage is not written: %s", error.message)


@asynccontextmanager
async def open_usage(usage: Usage) -> AsyncIterator[None]:
    """`usage` at work; written once more when the block ends."""
    await usage.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(usage.run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # a transaction takes milliseconds
                try:
                    await usage.write()
                except StorageError as error:
                    log.warning("usage is not written: %s", error.message)


def _counted(told: Tokens | None) -> Counts:
    if told is None:
        return Counts()
    prompt = max(0, told.prompt_tokens)
    answer = max(told.completion_tokens, told.total_tokens - prompt, 0)  # some say the sum alone
    return Counts(prompt_tokens=prompt, completion_tokens=answer)
