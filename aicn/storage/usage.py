"""The `usage` table. Fits `services.ports.UsageStore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import astuple

from aicn.domain.usage import Counts, Row
from aicn.storage.database import Database

_ADD = """
    insert into usage values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict do update set
        requests = requests + excluded.requests,
        failed = failed + excluded.failed,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        estimated_tokens = estimated_tokens + excluded.estimated_tokens,
        bytes_in = bytes_in + excluded.bytes_in,
        bytes_out = bytes_out + excluded.bytes_out
"""


class Usage:
    """Durable counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, counts: Mapping[Row, Counts], *, forget_before: int) -> None:
        rows = [(*row, *astuple(one)) for row, one in counts.items()]

        def add(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, rows)
            connection.execute("delete from usage where hour < ?", (forget_before,))

        await self._database.write(add)

    async def load(self, since: int) -> Sequence[tuple[Row, Counts]]:
        def load(connection: sqlite3.Connection) -> list[tuple[Row, Counts]]:
            rows = connection.execute(
                "select * from usage where hour >= ? order by hour, key, project, model, peer", (since,)
            )
            return [(Row(*row[:5]), Counts(*row[5:])) for row in rows]

        return await self._database.read(load)
