"""The node's SQLite database: one directory, one process, one writer.

    open_database
     └─ lock on <dir>/lock           held as long as the process lives; flock ends with it, kill -9 included
         └─ connections to <dir>/aicn.db   one that writes, a few that read

SQLite runs in worker threads, never on the event loop. A cancelled task waits for its running transaction to end: there is no
half-written state, and what was answered as written is on the disk (WAL, synchronous = FULL). Errors of sqlite3 end here.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import trio

from aicn.errors import InvalidRequest, StartupError, StorageError

T = TypeVar("T")

DATABASE_FILE = "aicn.db"
LOCK_FILE = "lock"
READERS = 2  # reads here take under a millisecond: two at once keep a slow one from holding up the others
BUSY_S = 5.0  # only an operator's sqlite3 shell can hold the lock against us, and not for long

_WAY_OUT = f"; restore a backup, or move {DATABASE_FILE} and the files beside it away and register the models again"
_MIGRATION_NAME = re.compile(r"(\d{4})_\w+\.sql")


class Database:
    """Runs functions on connections, in threads. Made by `open_database`."""

    def __init__(self, path: Path, writer: sqlite3.Connection, readers: list[sqlite3.Connection]) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(len(readers))

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one transaction of the only writer; it is on the disk when this returns.

        Cancelled while it waits for its turn: nothing was done. Later: the transaction ends first, one way or the other.
        StorageError (nothing was written), InvalidRequest for text that is not Unicode; errors of `work` roll back and pass.
        """
        return await trio.to_thread.run_sync(self._transact, work, limiter=self._writing)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a connection that cannot write. It sees all writes that have returned. StorageError."""
        return await trio.to_thread.run_sync(self._query, work, limiter=self._reading)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _sqlite_errors(self.path), _transaction(self._writer):
            return work(self._writer)

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        reader = self._readers.pop()  # never empty: the limiter lets in as many as there are
        try:
            with _sqlite_errors(self.path):
                return work(reader)
        finally:
            self._readers.append(reader)


@asynccontextmanager
async def open_database(directory: Path) -> AsyncIterator[Database]:
    """The database in `directory`, created or brought up to date if need be.

    StartupError, one line: the directory cannot be used or another node uses it; the file is damaged, or newer than this program.
    """
    # Closed on the event loop: by then nothing else of the node runs, and a last checkpoint takes milliseconds.
    with ExitStack() as stack:
        yield await trio.to_thread.run_sync(_open, directory, stack)


def _open(directory: Path, stack: ExitStack) -> Database:
    path = directory / DATABASE_FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(_locked(directory))
        path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode; URLs in it may hold secrets
    except OSError as error:
        raise StartupError(f"data directory {directory} cannot be used: {error.strerror or error}") from error
    try:
        writer = stack.enter_context(closing(_connect(path)))
        _migrate(path, writer)
        readers = [stack.enter_context(closing(_connect(path))) for _ in range(READERS)]
        for reader in readers:
            reader.execute("pragma query_only = on")
    except sqlite3.Error as error:
        raise StartupError(f"database {path} cannot be opened: {error}{_way_out(error)}") from error
    return Database(path, writer, readers)


def _way_out(error: sqlite3.Error) -> str:
    """What the operator can do, where it is the file's content that is wrong."""
    damaged = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return _WAY_OUT if getattr(error, "sqlite_errorcode", 0) & 0xFF in damaged else ""


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory's lock. The file stays behind: deleting it would let two nodes lock two files of one name."""
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)  # not inherited by child processes
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StartupError(f"data directory {directory} is in use by another node (pid {owner})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=BUSY_S,
        isolation_level=None,  # no transactions behind our back
        check_same_thread=False,  # threads come from a pool; the limiters see to it that a connection has one at a time
    )
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")  # WAL's default may lose the last commits in a power cut
        connection.execute("pragma foreign_keys = on")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the schema up to date: each file in a transaction of its own that also counts `user_version` up."""
    (damage,) = connection.execute("pragma quick_check(1)").fetchone()
    if damage != "ok":
        raise StartupError(f"database {path} is damaged: {' '.join(damage.split())}{_WAY_OUT}")
    (version,) = connection.execute("pragma user_version").fetchone()
    scripts = migrations()
    if version > len(scripts):
        raise StartupError(
            f"database {path} has version {version}, made by a newer aicn; this one knows versions up to {len(scripts)}"
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        with _rolled_back_on_error(connection):
            connection.executescript(f"begin immediate;\n{script}\npragma user_version = {number};\ncommit;")


def migrations() -> list[str]:
    """The SQL of all migrations; number n (from 1) is at n - 1."""
    found = sorted(
        (
            entry
            for entry in files("aicn.storage").joinpath("migrations").iterdir()
            if _MIGRATION_NAME.fullmatch(entry.name)
        ),
        key=lambda entry: entry.name,
    )
    assert [int(entry.name[:4]) for entry in found] == list(range(1, len(found) + 1)), (
        "migrations are numbered 1, 2, 3 …"
    )
    return [entry.read_text("utf-8") for entry in found]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    with _rolled_back_on_error(connection):
        connection.execute("begin immediate")
        yield
        connection.execute("commit")


@contextmanager
def _rolled_back_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors, such as a full disk
            connection.execute("rollback")
        raise


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"database {path}: {error}") from error
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can express and UTF-8 cannot
        raise InvalidRequest("text holds a character that is not Unicode") from error
