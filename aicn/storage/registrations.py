"""The `endpoint` table: what is registered on this node. Fits `services.ports.RegistrationStore`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from aicn.domain.registration import Endpoint
from aicn.storage.database import Database


class Registrations:
    """Durable registrations. Projects come sorted by name, the endpoints of each in the order they were given in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Sequence[Endpoint]:
        return await self._database.read(_load)

    async def replace_project(self, project: str, endpoints: Sequence[Endpoint]) -> None:
        rows = [
            (project, position, e.model, e.url, e.type, json.dumps(e.headers), e.api_key, e.context)
            for position, e in enumerate(endpoints)
        ]

        def replace(connection: sqlite3.Connection) -> None:
            connection.execute("delete from endpoint where project = ?", (project,))
            connection.executemany(
                "insert into endpoint (project, position, model, url, type, headers, api_key, context) values (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._database.write(replace)


def _load(connection: sqlite3.Connection) -> list[Endpoint]:
    rows = connection.execute(
        "select project, model, url, type, headers, api_key, context from endpoint order by project, position"
    )
    return [
        Endpoint(
            project, model, url, kind, tuple((name, value) for name, value in json.loads(headers)), api_key, context
        )
        for project, model, url, kind, headers, api_key, context in rows
    ]
