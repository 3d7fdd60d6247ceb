"""The `address` table: where peers were reached before. Fits `services.ports.AddressBook`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from aicn.domain.ids import PeerId
from aicn.domain.nodes import DialOutcome, KnownAddress
from aicn.storage.database import Database

MOST_ADDRESSES = 1000  # kept, the most promising ones
MOST_FAILURES = 10  # in a row, after which an address is dropped if it is also
OLD_S = 30 * 86_400.0  # seconds since it was last good for anything

_SUCCESS = """
    insert into address (peer, address, connected_at, successes, failures) values (?, ?, ?, 1, 0)
    on conflict do update set connected_at = excluded.connected_at, successes = successes + 1, failures = 0
"""
_HEARD = """
    insert into address (peer, address, connected_at, successes, failures) values (?, ?, ?, 0, 1)
    on conflict do update set connected_at = excluded.connected_at
"""  # after those that were reached: anybody may say that it listens
_FAILURE = "update address set failures = failures + 1 where peer = ? and address = ?"
_BEST_FIRST = "order by failures, connected_at desc, peer, address"


class Addresses:
    """Durable addresses of peers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, limit: int) -> Sequence[KnownAddress]:
        def load(connection: sqlite3.Connection) -> list[KnownAddress]:
            columns = "peer, address, connected_at, successes, failures"
            rows = connection.execute(f"select {columns} from address {_BEST_FIRST} limit ?", (limit,))  # noqa: S608
            return [KnownAddress(PeerId(peer), *rest) for peer, *rest in rows]

        return await self._database.read(load)

    async def record(self, outcomes: Sequence[DialOutcome]) -> None:
        if outcomes:
            await self._database.write(lambda connection: _record(connection, outcomes))


def _record(connection: sqlite3.Connection, outcomes: Sequence[DialOutcome]) -> None:
    for one in outcomes:
        if one.reached is None:
            connection.execute(_HEARD, (one.peer, one.address, one.at))
        elif one.reached:
            connection.execute(_SUCCESS, (one.peer, one.address, one.at))
        else:
            connection.execute(_FAILURE, (one.peer, one.address))
    old = max(one.at for one in outcomes) - OLD_S
    connection.execute("delete from address where failures >= ? and connected_at < ?", (MOST_FAILURES, old))
    surplus = f"select peer, address from address {_BEST_FIRST} limit -1 offset ?"  # noqa: S608 - a constant
    connection.execute(f"delete from address where (peer, address) in ({surplus})", (MOST_ADDRESSES,))  # noqa: S608
