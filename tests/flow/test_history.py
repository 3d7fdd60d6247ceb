"""What a node remembers of its network, over restarts."""

from __future__ import annotations

import logging
import signal
import sqlite3
from pathlib import Path

import pytest
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from aicn.domain.ids import PeerId
from aicn.domain.nodes import DialOutcome
from aicn.errors import StorageError
from aicn.p2p.host import open_host
from aicn.p2p.identity import generate_key, parse_key
from aicn.storage.addresses import Addresses
from aicn.storage.database import DATABASE_FILE, open_database
from tests.e2e.nodes import running, write_node
from tests.fakes.hosts import CONFIG, PEER_OF_NOBODY, full_address, open_test_host, until
from tests.fakes.stores import MemoryAddresses


@pytest.fixture(autouse=True)
def no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.history._HEAD_START_S", 0.01)
    monkeypatch.setattr("aicn.p2p.history.WRITE_S", 0.01)


async def test_a_restarted_node_finds_an_old_acquaintance_without_bootstrap(tmp_path: Path) -> None:
    key = parse_key(generate_key())
    async with open_test_host() as b:
        async with (
            open_database(tmp_path) as database,
            open_host(CONFIG, key, agent_version="aicn/test", address_book=Addresses(database)) as a,
        ):
            await a.connect(full_address(b))  # written down when it stops, if not before
        await until(lambda: not b.connections())
        async with (
            open_database(tmp_path) as database,
            open_host(CONFIG, key, agent_version="aicn/test", address_book=Addresses(database)) as a,
        ):
            await until(lambda: [one.peer for one in a.connections()] == [b.id])


async def test_it_goes_back_when_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aicn.p2p.history._ALONE_S", 0.05)
    book = MemoryAddresses()
    async with (
        open_test_host() as b,
        open_host(CONFIG, parse_key(generate_key()), agent_version="aicn/test", address_book=book) as a,
    ):
        await a.connect(full_address(b))
        for connection in a._swarm.open_connections():
            await connection.close()
        await until(lambda: a.connections() and a.connections()[0].number > 1)


async def test_failures_are_counted_and_written_in_batches() -> None:
    book = MemoryAddresses()
    async with (
        open_test_host() as b,
        open_host(CONFIG, parse_key(generate_key()), agent_version="aicn/test", address_book=book) as a,
    ):
        await a.connect(full_address(b))
        await until(lambda: book.known)
        calls = book.recorded
        assert a._history is not None
        for _ in range(500):
            a._history.note(ID.from_base58(b.id), Multiaddr(b.addresses()[0]), False)
        await until(lambda: next(iter(book.known.values())).failures == 500)
        assert book.recorded <= calls + 2


@pytest.mark.parametrize("where", ["start", "later"])
async def test_a_book_that_fails_is_said_and_does_no_harm(where: str, caplog: pytest.LogCaptureFixture) -> None:
    book = MemoryAddresses()
    if where == "start":
        book.failure = StorageError("the disk is full")
    async with (
        open_test_host() as b,
        open_host(CONFIG, parse_key(generate_key()), agent_version="aicn/test", address_book=book) as a,
    ):
        book.failure = StorageError("the disk is full")
        await a.connect(full_address(b))
        await until(lambda: [one for one in caplog.records if "the disk is full" in one.getMessage()])
        assert [one.peer for one in a.connections()] == [b.id]
    assert {one.levelno for one in caplog.records if one.name == "aicn.p2p.history"} == {logging.WARNING}


async def test_nonsense_in_the_book_is_passed_over() -> None:
    book = MemoryAddresses()
    async with open_test_host() as b:
        rows = [(b.id, "junk"), (b.id, "/ip4/127.0.0.1/udp/1/quic-v1"), ("junk", "/ip4/127.0.0.1/tcp/1")]
        rows += [(PEER_OF_NOBODY, b.addresses()[0]), (b.id, b.addresses()[0])]
        await book.record([DialOutcome(PeerId(peer), address, 1.0, True) for peer, address in rows])
        async with open_host(CONFIG, parse_key(generate_key()), agent_version="aicn/test", address_book=book) as a:
            await until(lambda: [one.peer for one in a.connections()] == [b.id])


async def test_a_daemon_that_was_killed_comes_back_to_its_network(tmp_path: Path) -> None:
    async with open_test_host() as b:
        async with running(write_node(tmp_path, bootstrap=(full_address(b),))) as daemon:
            await until(lambda: b.connections(), seconds=20)
            await until(lambda: remembered(tmp_path) == [b.id], seconds=20)
            await daemon.stop(signal.SIGKILL)
        await until(lambda: not b.connections(), seconds=20)
        async with running(write_node(tmp_path)):  # no bootstrap any more
            await until(lambda: b.connections(), seconds=20)


def remembered(directory: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{directory / 'data' / DATABASE_FILE}?mode=ro", uri=True)
    try:
        return [peer for (peer,) in connection.execute("select peer from address")]
    finally:
        connection.close()
