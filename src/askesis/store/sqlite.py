"""Everything that is peculiar to SQLite: the file, the connection, its errors, the writer's lock, the checks."""

from __future__ import annotations

import errno
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from askesis.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from askesis.trace import canonical_json

__all__ = [
    "SqliteDatabase",
    "WriterLock",
    "check_length",
    "connect",
    "cut",
    "file_error",
    "is_blank",
    "make_durable",
    "raw_connection",
    "schema_digest",
    "structure_problems",
    "table_names",
    "transaction",
    "translated",
]

Result = TypeVar("Result")

_RESTORE = "run `askesis store verify`, then restore a backup"
_PROBLEM_LIMIT = 100
_SMALLEST_FILE_BYTES = 512
"""The smallest page that SQLite knows."""


def raw_connection(path: Path, *, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection with our settings. ``mode`` is SQLite's: rwc, rw or ro."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=busy_timeout_s, isolation_level=None
    )
    try:
        settings = ["foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"]
        settings += ["query_only=ON"] if mode == "ro" else ["synchronous=NORMAL"]
        for setting in settings:
            connection.execute(f"PRAGMA {setting}").fetchall()
        if mode != "ro":
            _use_wal(connection, path)
    except (sqlite3.Error, StoreError):
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection, path: Path) -> None:
    (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if journal != "wal":  # SQLite stays silent about it
        raise StoreError(
            "no write-ahead log can be kept here, as on a network file system",
            where=str(path),
            got=f"journal_mode={journal}",
            next_step="put the store on a local disk",
        )


def connect(path: Path, *, mode: str, busy_timeout_s: float) -> Connection:
    """A SQLAlchemy connection that lives until it is closed."""
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: raw_connection(path, mode=mode, busy_timeout_s=busy_timeout_s),
        poolclass=NullPool,
    )

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:  # sqlite3 would otherwise begin late, and never for SELECT
        connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))

    return engine.connect()


@contextmanager
def transaction(connection: Connection, *, writes: bool) -> Iterator[Connection]:
    """All or nothing. A writing transaction takes the write lock at once, so it never fails half-way for want of it."""
    connection.info["begin"] = "BEGIN IMMEDIATE" if writes else "BEGIN"
    with connection.begin():
        yield connection


def make_durable(connection: Connection) -> None:
    """Everything committed so far survives a power cut: one more commit, with the write-ahead log flushed to disk."""
    driver = connection.connection.driver_connection  # the setting cannot be changed inside a transaction
    assert isinstance(driver, sqlite3.Connection)
    driver.execute("PRAGMA synchronous=FULL")
    try:
        with transaction(connection, writes=True):
            connection.exec_driver_sql("UPDATE log_state SET size = size")
    finally:
        driver.execute("PRAGMA synchronous=NORMAL")


class SqliteDatabase:
    """A store in a file: one writing process, any number of readers. See :class:`askesis.store.database.Database`."""

    def __init__(self, path: Path, *, create: bool, read_only: bool, wait_s: float) -> None:
        self.path = path
        self.where = str(path)
        self.writable = not read_only
        self._wait_s = wait_s
        self._lock: WriterLock | None = None
        _check_exists(path, create=create and not read_only)
        with translated(path, wait_s):
            try:
                self._lock = None if read_only else WriterLock(path, busy_timeout_s=wait_s)
                self._connection = connect(path, mode="ro" if read_only else "rwc", busy_timeout_s=wait_s)
                try:
                    with transaction(self._connection, writes=False):
                        check_length(self._connection, path)
                except BaseException:
                    self._connection.close()
                    raise
            except BaseException:
                if self._lock is not None:
                    self._lock.release()
                raise

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._connection.closed

    def do(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        """Run ``work`` in a transaction: all or nothing."""
        with translated(self.path, self._wait_s), transaction(self._connection, writes=writes) as connection:
            return work(connection)

    def migrate(self, work: Callable[[Connection], None]) -> None:
        """As any other write: there is no second writer."""
        self.do(work, writes=True)

    def lock_run(self, run_id: str) -> None:
        """Nothing is left to do: there is no second writer."""

    def make_durable(self) -> None:
        """Flush the write-ahead log."""
        with translated(self.path, self._wait_s):
            make_durable(self._connection)

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        if not self._connection.closed:
            self._connection.close()
        if self._lock is not None:
            self._lock.release()


class WriterLock:
    """One writer per store: an exclusive lock on ``<store>.lock``, freed by the system however the process ends.

    Readers are not hindered. Two connections that write or checkpoint the same file at the same moment are also what
    can damage a file of SQLite before 3.51.3 (its WAL-reset race).
    """

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        lock = path.with_name(path.name + ".lock")
        self._connection = sqlite3.connect(lock, timeout=busy_timeout_s, isolation_level=None)
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            self._connection.close()
            raise

    def release(self) -> None:
        """Let the next writer in."""
        self._connection.close()


def table_names(connection: Connection) -> set[str]:
    """The tables in the file."""
    rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").all()
    return {str(name) for (name,) in rows}


def check_length(connection: Connection, path: Path) -> None:
    """Raises StoreCorrupt if the end of the last page is missing; SQLite itself would read zeros there.

    While a write-ahead log exists, the file may be shorter for good reasons. The file is not opened here: closing it
    again would drop the locks that other connections of this process hold.
    """
    wal = path.with_name(path.name + "-wal")
    page_size = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    if path.stat().st_size % page_size and not (wal.exists() and wal.stat().st_size):
        raise cut(path)


def cut(path: Path) -> StoreCorrupt:
    """The error for a file whose end is missing."""
    return StoreCorrupt("the store was cut", where=str(path), got=f"{path.stat().st_size} bytes", next_step=_RESTORE)


def is_blank(connection: Connection) -> bool:
    """Was nothing ever written here? A file with pages but no tables is damaged, not new."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return not table_names(connection) and int(pages) <= 1


def schema_digest(connection: Connection, revision: str) -> str:
    """SHA-256 over the definitions of all tables and indexes: a damaged definition would change what columns mean."""
    rows = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").all()
    return hashlib.sha256(canonical_json([revision, [list(row) for row in rows]])).hexdigest()


def structure_problems(connection: Connection) -> list[str]:
    """What SQLite's own checks say: damaged pages, indexes that disagree with their tables, rows that point nowhere."""
    rows = connection.exec_driver_sql(f"PRAGMA integrity_check({_PROBLEM_LIMIT})").all()
    problems = [str(line) for (line,) in rows if line != "ok"]
    for table, rowid, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").all()[:_PROBLEM_LIMIT]:
        problems.append(f"row {rowid} of {table} points to a row of {parent} that is not there")
    return problems


@contextmanager
def translated(path: Path, busy_timeout_s: float) -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _typed(error.orig or error, path, busy_timeout_s) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:  # a message of SQLite may quote damaged text
        raise _typed(error, path, busy_timeout_s) from error


def file_error(error: OSError, path: Path) -> StoreError:
    """The same for a file that is no database."""
    kind = StoreFull if error.errno == errno.ENOSPC else StoreError
    return kind("a file cannot be written", where=str(path), got=str(error), next_step="check the path and its disk")


def _typed(error: BaseException, path: Path, busy_timeout_s: float) -> StoreError:
    extended = getattr(error, "sqlite_errorcode", None)
    code = None if extended is None else extended & 0xFF
    where, got = str(path), str(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(
            f"another writer holds the store; it was not free after {busy_timeout_s:g} s",
            where=where,
            got=got,
            next_step="close the other program that writes here; readers open it with read_only=True",
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(
            "no space is left for the store; nothing of this write was kept",
            where=where,
            got=got,
            next_step=f"free space on the disk of {path.parent}, then resume",
        )
    is_damage = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)
    is_cut = extended == sqlite3.SQLITE_IOERR_SHORT_READ
    if is_damage or is_cut or isinstance(error, UnicodeDecodeError) or got.startswith("Could not decode"):
        return StoreCorrupt("the store is damaged", where=where, got=got, next_step=_RESTORE)
    return StoreError("the store cannot be used", where=where, got=got, next_step="see the message of SQLite above")


def _check_exists(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StoreError("a store is a file, this is a folder", where=str(path), next_step="name a file in it")
    if path.exists() and 0 < path.stat().st_size < _SMALLEST_FILE_BYTES:
        raise cut(path)  # SQLite would take it for a new file and write over it
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(error, path) from error
    elif not path.exists():
        raise StoreError(
            "there is no store here", where=str(path), next_step="check the path; training creates the store"
        )
