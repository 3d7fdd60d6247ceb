"""Stores in memory, held to the same contract as the real ones (tests/contract/test_…_store.py, test_address_book.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from aicn.domain.ids import PeerId
from aicn.domain.keys import Key
from aicn.domain.nodes import DialOutcome, KnownAddress
from aicn.domain.registration import Endpoint
from aicn.domain.usage import Counts, Row


class MemoryRegistrations:
    """RegistrationStore without a disk; `failure`, when set, is what every write raises."""

    def __init__(self) -> None:
        self.projects: dict[str, tuple[Endpoint, ...]] = {}
        self.failure: Exception | None = None

    async def load(self) -> Sequence[Endpoint]:
        return [endpoint for project in sorted(self.projects) for endpoint in self.projects[project]]

    async def replace_project(self, project: str, endpoints: Sequence[Endpoint]) -> None:
        if self.failure is not None:
            raise self.failure
        if endpoints:
            self.projects[project] = tuple(endpoints)
        else:
            self.projects.pop(project, None)


class MemoryAddresses:
    """AddressBook without a disk; `failure`, when set, is what every call raises."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], KnownAddress] = {}
        self.failure: Exception | None = None
        self.recorded = 0  # calls

    async def load(self, limit: int) -> Sequence[KnownAddress]:
        self._fail()
        best = sorted(self.known.values(), key=lambda one: (one.failures, -one.connected_at, one.peer, one.address))
        return best[:limit]

    async def record(self, outcomes: Sequence[DialOutcome]) -> None:
        self._fail()
        self.recorded += 1
        for one in outcomes:
            key = (one.peer, one.address)
            before = self.known.get(key)
            if one.reached is None:
                heard = KnownAddress(one.peer, one.address, one.at, 0, 1)
                self.known[key] = heard if before is None else replace(before, connected_at=one.at)
            elif one.reached:
                successes = 1 if before is None else before.successes + 1
                self.known[key] = KnownAddress(one.peer, one.address, one.at, successes, 0)
            elif before is not None:
                self.known[key] = replace(before, failures=before.failures + 1)
        if outcomes:
            self._drop(max(one.at for one in outcomes) - 30 * 86_400)

    def _drop(self, old: float) -> None:
        for key, one in list(self.known.items()):
            if one.failures >= 10 and one.connected_at < old:
                del self.known[key]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryOffers:
    """OfferStore without a disk; `failure`, when set, is what every call raises."""

    def __init__(self) -> None:
        self.signed: dict[PeerId, bytes] = {}
        self.failure: Exception | None = None

    async def load(self) -> Sequence[bytes]:
        self._fail()
        return [self.signed[node] for node in sorted(self.signed)]

    async def save(self, signed: Mapping[PeerId, bytes], gone: Collection[PeerId]) -> None:
        self._fail()
        for node in gone:
            self.signed.pop(node, None)
        self.signed.update(signed)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class MemoryKeys:
    """KeyStore without a disk."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}

    async def load(self) -> Sequence[Key]:
        return sorted(self.keys.values(), key=lambda key: (key.created_at, key.id))

    async def add(self, key: Key) -> None:
        self.keys[key.id] = key

    async def remove(self, key_id: str) -> None:
        self.keys.pop(key_id, None)


class MemoryUsage:
    """UsageStore without a disk; `failure`, when set, is what every write raises."""

    def __init__(self) -> None:
        self.counts: dict[Row, Counts] = {}
        self.failure: Exception | None = None

    async def add(self, counts: Mapping[Row, Counts], *, forget_before: int) -> None:
        if self.failure is not None:
            raise self.failure
        for row, one in counts.items():
            self.counts.setdefault(row, Counts()).add(one)
        self.counts = {row: one for row, one in self.counts.items() if row.hour >= forget_before}

    async def load(self, since: int) -> Sequence[tuple[Row, Counts]]:
        return sorted((row, replace(one)) for row, one in self.counts.items() if row.hour >= since)
