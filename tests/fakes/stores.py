"""Stores in memory, held to the same contract as the real ones (tests/contract/test_registration_store.py)."""

from __future__ import annotations

from collections.abc import Sequence

from aicn.domain.registration import Endpoint


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
