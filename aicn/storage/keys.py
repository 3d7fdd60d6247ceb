"""The `api_key` table. Fits `services.ports.KeyStore`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from aicn.domain.keys import Key, Scope
from aicn.storage.database import Database

_COLUMNS = "id, name, digest, models, requests_per_minute, tokens_per_day, concurrency, expires_at, admin, created_at"


class Keys:
    """Durable API keys, the oldest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Sequence[Key]:
        return await self._database.read(_load)

    async def add(self, key: Key) -> None:
        scope = key.scope
        limits = (scope.requests_per_minute, scope.tokens_per_day, scope.concurrency)
        row = (key.id, key.name, key.digest, json.dumps(scope.models), *limits, scope.expires_at, scope.admin)
        statement = f"insert into api_key ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
        await self._database.write(lambda connection: connection.execute(statement, (*row, key.created_at)))

    async def remove(self, key_id: str) -> None:
        await self._database.write(lambda connection: connection.execute("delete from api_key where id = ?", (key_id,)))


def _load(connection: sqlite3.Connection) -> list[Key]:
    rows = connection.execute(f"select {_COLUMNS} from api_key order by created_at, id")  # noqa: S608 - a constant
    return [
        Key(key_id, name, digest, Scope(tuple(json.loads(models)), rate, tokens, places, end, bool(admin)), created_at)
        for key_id, name, digest, models, rate, tokens, places, end, admin, created_at in rows
    ]
