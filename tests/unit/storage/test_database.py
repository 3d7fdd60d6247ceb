"""The database file: who may open it, what a crash, a full disk or a cancelled task leaves behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from aicn.domain.registration import Endpoint
from aicn.errors import InvalidRequest, StartupError, StorageError
from aicn.storage.database import DATABASE_FILE, LOCK_FILE, READERS, Database, migrations, open_database
from aicn.storage.registrations import Registrations

# Writes projects one after the other, each of two endpoints, and says on stdout which are on the disk.
WRITER = """
import sys, trio
from pathlib import Path
from aicn.domain.registration import Endpoint
from aicn.storage.database import open_database
from aicn.storage.registrations import Registrations

async def main():
    async with open_database(Path(sys.argv[1])) as database:
        print("open", flush=True)
        store = Registrations(database)
        for n in range(1_000_000):
            name = f"{sys.argv[2]}-{n}"
            await store.replace_project(name, [Endpoint(name, m, "http://127.0.0.1/" + "x" * 500) for m in "ab"])
            print(name, flush=True)

trio.run(main)
"""

# Opens a database whose last migrations are long.
MIGRATOR = """
import sys, trio
from pathlib import Path
from aicn.storage import database
from tests.unit.storage.test_database import LONG, open_and_close

scripts = [*database.migrations(), *LONG]
database.migrations = lambda: scripts
print("begins", flush=True)
trio.run(open_and_close, Path(sys.argv[1]))
print("done", flush=True)
"""
ROWS = 30_000
_COUNT = f"with recursive n (x) as (values (1) union all select x + 1 from n where x < {ROWS}) select x, hex(randomblob(50)) from n"
LONG = [f"create table long{n} (x, y);\ninsert into long{n} {_COUNT};" for n in range(10)]


def tables(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return json.dumps(connection.execute("select name, sql from sqlite_schema order by name").fetchall())
    finally:
        connection.close()


async def open_and_close(directory: Path) -> None:
    async with open_database(directory):
        pass


async def test_a_new_directory_is_private_and_has_every_migration(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "data"
    async with open_database(directory) as database:
        settings = await database.write(
            lambda c: [c.execute(f"pragma {p}").fetchone()[0] for p in ("user_version", "journal_mode", "synchronous")]
        )
    assert settings == [len(migrations()), "wal", 2]
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / DATABASE_FILE).stat().st_mode & 0o777 == 0o600


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    await open_and_close(tmp_path)
    schema = tables(tmp_path / DATABASE_FILE)
    await open_and_close(tmp_path)
    assert tables(tmp_path / DATABASE_FILE) == schema
    assert "endpoint" in schema


async def test_a_database_of_an_earlier_version_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrations()
    for version in range(1, len(every)):
        directory = tmp_path / str(version)
        with monkeypatch.context() as earlier:
            earlier.setattr("aicn.storage.database.migrations", lambda version=version: every[:version])
            await open_and_close(directory)
        with closing(sqlite3.connect(directory / DATABASE_FILE)) as old, old:
            old.execute(
                "insert into endpoint (project, position, model, url, type) values ('p', 0, 'm', 'http://h/', 1)"
            )
        async with open_database(directory) as database:
            assert list(await Registrations(database).load()) == [Endpoint("p", "m", "http://h/", 1)]


async def test_a_secret_is_in_no_file_that_others_may_read(tmp_path: Path) -> None:
    secret = Endpoint("p", "m", "http://u:s3cret@h/", 0, (("X", "s3cret"),), "s3cret")
    async with open_database(tmp_path / "data") as database:
        await Registrations(database).replace_project("p", [secret])
        holding = [path for path in (tmp_path / "data").iterdir() if b"s3cret" in path.read_bytes()]
        assert holding
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "data").iterdir()} == {0o600}


async def test_a_broken_migration_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = migrations()
    broken = [*good, "create table half (x);\ncreate table endpoint (x);"]
    monkeypatch.setattr("aicn.storage.database.migrations", lambda: broken)
    with pytest.raises(StartupError, match="already exists"):
        await open_and_close(tmp_path)
    assert "half" not in tables(tmp_path / DATABASE_FILE)
    monkeypatch.setattr("aicn.storage.database.migrations", lambda: [*good, "create table whole (x);"])
    await open_and_close(tmp_path)
    assert "whole" in tables(tmp_path / DATABASE_FILE)


async def test_a_database_from_the_future_is_refused_untouched(tmp_path: Path) -> None:
    await open_and_close(tmp_path)
    connection = sqlite3.connect(tmp_path / DATABASE_FILE)
    connection.execute("pragma user_version = 999")
    connection.close()
    with pytest.raises(StartupError, match=r"aicn\.db has version 999, made by a newer aicn"):
        await open_and_close(tmp_path)


async def test_the_directory_has_one_owner(tmp_path: Path) -> None:
    async with open_database(tmp_path):
        with pytest.raises(StartupError, match=rf"in use by another node \(pid {os.getpid()}\)"):
            await open_and_close(tmp_path)
        second = await trio.run_process(
            [sys.executable, "-c", WRITER, str(tmp_path), "x"], capture_stdout=True, capture_stderr=True, check=False
        )
        assert second.returncode != 0
        assert f"in use by another node (pid {os.getpid()})".encode() in second.stderr
    await open_and_close(tmp_path)


async def test_the_lock_survives_into_no_child_process(tmp_path: Path) -> None:
    async with open_database(tmp_path):
        child = await trio.lowlevel.open_process([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        await open_and_close(tmp_path)
    finally:
        child.kill()
        await child.wait()


@pytest.mark.parametrize("directory", ["/proc/aicn-data", "file/data"])  # a file system that refuses, a file in the way
async def test_a_directory_that_cannot_be_made(tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"data directory .* cannot be used: [^\n]*$"):
        await open_and_close(tmp_path / directory)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartupError, match="cannot be used: Permission denied"):
        trio.run(open_and_close, tmp_path)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"this is not SQLite. " * 500)
    with pytest.raises(
        StartupError, match=r"aicn\.db cannot be opened: file is not a database; restore a backup, or move [^\n]*$"
    ):
        await open_and_close(tmp_path)


async def test_a_damaged_database(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        for n in range(50):
            await Registrations(database).replace_project(f"p{n}", [Endpoint(f"p{n}", "m", "u" * 500)])
    path = tmp_path / DATABASE_FILE
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 8192 + content[12288:])
    with pytest.raises(
        StartupError, match=r"aicn\.db (is damaged|cannot be opened): [^\n]*; restore a backup, or move [^\n]*$"
    ):
        await open_and_close(tmp_path)


async def test_a_full_disk_is_a_storage_error_and_loses_nothing(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        store = Registrations(database)
        await store.replace_project("p", [Endpoint("p", "m", "http://a")])
        pages = await database.write(lambda c: c.execute("pragma page_count").fetchone()[0])
        await database.write(lambda c: c.execute(f"pragma max_page_count = {pages}").fetchone())
        with pytest.raises(StorageError, match=r"aicn\.db: database or disk is full"):
            await store.replace_project("p", [Endpoint("p", "m", "x" * 100_000)])
        assert list(await store.load()) == [Endpoint("p", "m", "http://a")]
        await store.replace_project("p", [Endpoint("p", "m", "http://b")])
        assert list(await store.load()) == [Endpoint("p", "m", "http://b")]


async def test_text_that_is_not_unicode_is_the_callers_fault(tmp_path: Path) -> None:
    async with open_database(tmp_path) as database:
        store = Registrations(database)
        await store.replace_project("p", [Endpoint("p", "m", "http://a")])
        with pytest.raises(InvalidRequest):
            await store.replace_project("p", [Endpoint("p", "\ud800", "http://a")])
        assert list(await store.load()) == [Endpoint("p", "m", "http://a")]


async def test_work_that_fails_leaves_nothing_and_holds_nothing_up(tmp_path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("insert into endpoint (project, position, model, url, type) values ('p', 0, 'half', 'u', 0)")
        raise KeyError

    async with open_database(tmp_path) as database:
        store = Registrations(database)
        with pytest.raises(KeyError):
            await database.write(fail)
        await store.replace_project("q", [Endpoint("q", "m", "u")])
        assert list(await store.load()) == [Endpoint("q", "m", "u")]


async def insert_held(database: Database, started: threading.Event, go: threading.Event) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute(
            "insert into endpoint (project, position, model, url, type) values ('p', 0, 'first', 'u', 0)"
        )
        started.set()
        assert go.wait(10)
        connection.execute(
            "insert into endpoint (project, position, model, url, type) values ('p', 1, 'second', 'u', 0)"
        )

    await database.write(work)


async def test_a_cancelled_write_is_done_whole_or_not_begun(tmp_path: Path) -> None:
    started, go = threading.Event(), threading.Event()
    async with open_database(tmp_path) as database:
        store = Registrations(database)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insert_held, database, started, go)
            await trio.to_thread.run_sync(started.wait)
            nursery.start_soon(store.replace_project, "queued", [Endpoint("queued", "m", "u")])
            await trio.testing.wait_all_tasks_blocked()
            assert list(await store.load()) == []  # readers see no half of it, and do not wait for it
            nursery.cancel_scope.cancel()
            go.set()
        assert [e.model for e in await store.load()] == ["first", "second"]


async def test_reads_cannot_write_and_run_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(READERS)
    async with open_database(tmp_path) as database:
        with pytest.raises(StorageError, match="readonly"):
            await database.read(lambda c: c.execute("delete from endpoint"))
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(database.read, lambda _: together.wait(10))


def test_kill_9_in_the_middle_of_migrations_leaves_each_whole_or_not_begun(tmp_path: Path) -> None:
    versions: list[int] = []
    first = len(migrations())
    for n in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", MIGRATOR, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(0.03 + 0.007 * n)  # the moment is what is tried
            process.send_signal(signal.SIGKILL)
        versions.append(migrated(tmp_path / DATABASE_FILE, first))
        if versions[-1] == first + len(LONG):
            break
    assert versions == sorted(versions)
    assert len(set(versions)) > 1, "no kill fell into a migration"
    done = subprocess.run(
        [sys.executable, "-c", MIGRATOR, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout == "begins\ndone\n"
    assert migrated(tmp_path / DATABASE_FILE, first) == first + len(LONG)


def migrated(path: Path, first: int) -> int:
    """The version of the database, which has every row of the migrations up to it and nothing of those after it."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("pragma user_version").fetchone()
        found = {name for (name,) in connection.execute("select name from sqlite_schema where name like 'long%'")}
        assert found == {f"long{n}" for n in range(max(0, version - first))}
        for name in found:
            assert connection.execute(f"select count(*) from {name}").fetchone() == (ROWS,)
    return int(version)


def test_kill_9_in_the_middle_of_writes_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    answered: set[str] = set()
    for n in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), f"{n:02}"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            for _ in range(5 + 7 * n):  # a different moment each round
                answered.add(process.stdout.readline().strip())
            process.send_signal(signal.SIGKILL)
            answered.update(line.strip() for line in process.stdout if line.endswith("\n"))
    assert len(answered) > 300

    async def check() -> None:
        async with open_database(tmp_path) as database:
            assert await database.read(lambda c: c.execute("pragma integrity_check").fetchall()) == [("ok",)]
            stored = await Registrations(database).load()
        projects = [e.project for e in stored]
        assert answered <= set(projects)
        assert all(projects.count(project) == 2 for project in set(projects))  # no half project
        assert len(set(projects) - answered) <= 10  # at most the one of each round that was under way

    trio.run(check)
    assert (tmp_path / LOCK_FILE).exists()
