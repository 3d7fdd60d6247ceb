"""The `offer` table: what nodes offered when this one last ran. Fits `services.ports.OfferStore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from aicn.domain.ids import PeerId
from aicn.storage.database import Database


class Offers:
    """Offers kept over a restart, one per node."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Sequence[bytes]:
        return await self._database.read(_load)

    async def save(self, signed: Mapping[PeerId, bytes], gone: Collection[PeerId]) -> None:
        kept, dropped = list(signed.items()), [(node,) for node in gone]

        def save(connection: sqlite3.Connection) -> None:
            connection.executemany("delete from offer where node = ?", dropped)
            connection.executemany(
                "insert into offer (node, signed) values (?, ?) on conflict do update set signed = excluded.signed",
                kept,
            )

        await self._database.write(save)


def _load(connection: sqlite3.Connection) -> list[bytes]:
    return [signed for (signed,) in connection.execute("select signed from offer order by node")]
