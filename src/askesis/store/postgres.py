"""Everything that is peculiar to PostgreSQL: the connection, its errors, who writes next, the catalog.

Writers come one after the other: each takes the row of the log's state first, since a leaf's number is known only once
all earlier ones are. So a transaction never fails half-way for want of a lock, and no two wait for each other. What
costs most, to encode and to hash, is done before. Readers have a snapshot and wait for nobody.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exists, func, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from askesis.errors import MissingExtra, StoreBusy, StoreCorrupt, StoreError, StoreFull
from askesis.store import address
from askesis.store.database import StoreUnreachable
from askesis.store.schema import metadata
from askesis.trace import canonical_json

__all__ = ["PostgresDatabase", "is_blank", "schema_digest", "select_rows", "structure_problems", "table_names"]

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_TURN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; "  # a writer that is stopped gives up its turn
)
_WRITE = _TURN + "SELECT 1 FROM log_state WHERE id = 1 FOR UPDATE"
_MIGRATE = _TURN + "SELECT pg_advisory_xact_lock(7274204127)"
"""The number is ours alone by being arbitrary."""

_HOLDER = """
SELECT a.application_name, a.client_addr, to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC') since
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND ((l.classid::bigint << 32) | l.objid::bigint) = (%s # hashtext(current_schema()))
"""
_STATEMENT_TIMEOUT_S = 3600
"""Longer than any check of a large store takes; a statement that never ends is cut off."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_UNREACHABLE = ("08", "25P03", "57P01", "57P02", "57P03", "53300")
"""Connection lost; own turn lost; server stopped, crashed, starting; too many users: worth another attempt."""


class PostgresDatabase:
    """A store on a server; see :class:`askesis.store.database.Database`. The connection comes back after a loss."""

    def __init__(self, url: str, *, read_only: bool, wait_s: float, outage_s: float | None = None) -> None:
        self._url = address.parse(url)
        self.where = address.public(self._url)
        self.writable = not read_only
        self._wait_s = wait_s
        self._outage_s = wait_s if outage_s is None else outage_s
        self._was_there = False
        self._engine = self._make_engine()
        self._connection: Connection | None = None
        self._runs: list[str] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        return self._closed

    def do(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        """Run ``work`` in a transaction, again after a lost connection, until the time to wait is over."""
        return self._patiently(lambda: self._once(work, _WRITE if writes else _READ))

    def migrate(self, work: Callable[[Connection], None]) -> None:
        """Run ``work`` alone."""
        self._patiently(lambda: self._once(work, _MIGRATE))

    def lock_run(self, run_id: str) -> None:
        """Hold the run's lock as long as the connection; it is taken again with a new one."""
        if run_id not in self._runs:
            self._patiently(lambda: self._take(run_id))
            self._runs.append(run_id)

    def make_durable(self) -> None:
        """Nothing is left to do: the server answers a commit when it is durable."""

    def close(self) -> None:
        """Let go. A second call does nothing."""
        self._closed = True
        self._drop()

    def _once(self, work: Callable[[Connection], Result], begin: str) -> Result:
        with self._translated():
            connection = self._connected()
            connection.info["begin"] = begin
            with connection.begin():
                return work(connection)

    def _patiently(self, attempt: Callable[[], Result]) -> Result:
        began, pause_s, is_late = time.monotonic(), _FIRST_PAUSE_S, False
        while True:
            try:
                answer = attempt()
                if is_late:
                    _log.warning("%s answers again, after %.1f s", self.where, time.monotonic() - began)
                return answer
            except StoreUnreachable as error:
                self._drop()
                if time.monotonic() + pause_s > began + self._patience_s:
                    raise
                if not is_late:  # whoever watches sees what is waited for, and for how long
                    cause = next(iter(str(error.got).splitlines()), "")
                    _log.warning("%s is not there (%s); waiting for up to %g s", self.where, cause, self._patience_s)
                is_late = True
            except BaseException:
                if self._connection is not None and self._connection.invalidated:
                    self._drop()
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @property
    def _patience_s(self) -> float:
        """A server that was there and went away is given longer than one that never answered."""
        return self._outage_s if self._was_there else self._wait_s

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            self._was_there = True
            try:
                for run_id in self._runs:
                    self._take(run_id)
            except BaseException:
                self._drop()  # nobody may write without the lock that was promised
                raise
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):  # it is broken, or will be in a moment
                connection.invalidate()
            with suppress(SQLAlchemyError):
                connection.close()

    def _take(self, run_id: str) -> None:
        connection = self._connected()
        name = canonical_json(["askesis run", run_id])
        key = int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)
        try:
            with self._translated(f"another process drives the run {run_id}"):
                connection.info["begin"] = "BEGIN"
                with connection.begin():
                    connection.exec_driver_sql("SELECT pg_advisory_lock(%s # hashtext(current_schema()))", (key,))
        except StoreBusy as error:
            error.got = self._holder(key) or error.got
            raise

    def _holder(self, key: int) -> str | None:
        """Who has the lock, as far as the server lets us see."""
        with self._translated():
            connection = self._connected()
            connection.info["begin"] = _READ
            with connection.begin():
                row = connection.exec_driver_sql(_HOLDER, (key,)).first()
        return None if row is None else f"{row.application_name}, address {row.client_addr}, since {row.since}"

    def _make_engine(self) -> Engine:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise MissingExtra("psycopg", "postgres", "a store at a URL") from error
        patience_s = max(2, round(self._wait_s))
        arguments = {
            "autocommit": True,  # BEGIN is ours, see below
            "application_name": f"askesis, process {os.getpid()} on {socket.gethostname()}"[:63],  # what they keep
            "client_encoding": "utf8",
            "connect_timeout": patience_s,
            "keepalives_idle": patience_s,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * patience_s,
        }
        url = self._url
        engine = create_engine(url, connect_args=arguments, poolclass=NullPool, use_native_hstore=False)
        event.listen(engine, "connect", self._set_up)
        event.listen(engine, "begin", lambda c: c.exec_driver_sql(c.info.get("begin", "BEGIN")))
        return engine

    def _set_up(self, driver: Any, _: object) -> None:
        """What a session must have, whatever the server's files say."""
        encoding = driver.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                "the database does not keep every character",
                where=self.where,
                got=encoding,
                expected="UTF8",
                next_step="CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            )
        settings = {
            "lock_timeout": f"{max(1, round(1000 * self._wait_s))}ms",
            "statement_timeout": f"{_STATEMENT_TIMEOUT_S}s",
            "extra_float_digits": "1",  # every float comes back as it was
            "default_transaction_read_only": "off" if self.writable else "on",
        }
        with driver.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
            cursor.execute(  # else a commit could be lost with a process
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )

    @contextmanager
    def _translated(self, busy: str = "other writers hold the store") -> Iterator[None]:
        """Turn the database's errors into ours."""
        import psycopg

        try:
            yield
        except DBAPIError as error:
            typed = self._typed(error.orig or error, busy)
        except (psycopg.Error, UnicodeDecodeError) as error:
            typed = self._typed(error, busy)
        else:
            return
        raise typed  # not from the cause, which may quote the address with its password

    def _typed(self, error: BaseException, busy: str) -> StoreError:
        state = str(getattr(error, "sqlstate", None) or "")
        got = address.scrubbed(str(error).strip(), self._url)
        kind, what, next_step = _classify(error, state)
        if kind is StoreBusy:
            what = f"{busy}; it was not free after {self._wait_s:g} s"
        if kind is StoreUnreachable:
            what = f"{what}; {self._patience_s:g} s were waited for it"
        return kind(what, where=self.where, got=f"{state} {got}".strip(), next_step=next_step)


def _classify(error: BaseException, state: str) -> tuple[type[StoreError], str, str]:
    import psycopg

    if state in ("55P03", "40P01", "40001"):
        return StoreBusy, "", "see who holds it in pg_stat_activity"
    if state == "53100":
        return StoreFull, "no space is left for the store; nothing of this write was kept", "free space on the server"
    if state.startswith(_UNREACHABLE):
        return StoreUnreachable, "the database server is not there", "start it; the next call connects again"
    if state.startswith("28"):
        return StoreError, "the database refuses this user", "check the user, and PGPASSWORD or ~/.pgpass"
    if state == "3D000":
        return StoreError, "there is no such database", "createdb it on the server; the tables come by themselves"
    if state.startswith(("23", "XX")) or isinstance(error, UnicodeDecodeError):
        return StoreCorrupt, "the store is damaged", "run `askesis store verify`, then restore a backup"
    if state == "42501":
        return StoreError, "the user may not do this", "GRANT what the message names"
    if not state and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return _classify_connection(str(error))
    return StoreError, "the store cannot be used", "see the message of PostgreSQL above"


def _classify_connection(message: str) -> tuple[type[StoreError], str, str]:
    """A refused login has no code of its own: only the text says why."""
    if "does not exist" in message and "database" in message:
        return _classify(ValueError(), "3D000")
    if "authentication failed" in message or "no password supplied" in message or "does not exist" in message:
        return _classify(ValueError(), "28000")
    return _classify(ValueError(), "08006")


def select_rows(url: str, sql: str, *, limit: int, wait_s: float) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """One SELECT in a read-only transaction. Raises StoreError for anything else."""
    import psycopg

    database = PostgresDatabase(url, read_only=True, wait_s=wait_s)

    def work(connection: Connection) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        driver: Any = connection.connection.driver_connection
        try:
            with driver.cursor("query") as cursor:  # DECLARE takes one SELECT, and no second statement
                cursor.execute(sql)
                names = tuple(column.name for column in cursor.description)
                return names, [tuple(row) for row in cursor.fetchmany(limit)]
        except (psycopg.DataError, psycopg.ProgrammingError, psycopg.NotSupportedError, UnicodeEncodeError) as error:
            raise _refused(error, database.where) from error
        except psycopg.Error as error:
            if error.sqlstate != "25006":  # read_only_sql_transaction
                raise
            raise _refused(error, database.where) from error

    try:
        return database.do(work, writes=False)
    finally:
        database.close()


def _refused(error: Exception, where: str) -> StoreError:
    return StoreError(
        "the query was refused",
        where=where,
        got=str(error),
        expected="one SELECT statement over the tables of the store",
        next_step="SELECT tablename FROM pg_tables WHERE schemaname = current_schema() shows the tables",
    )


def table_names(connection: Connection) -> set[str]:
    """The tables in the connection's schema."""
    rows = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").all()
    return {str(name) for (name,) in rows}


def is_blank(connection: Connection) -> bool:
    """Was nothing ever written here?"""
    return not table_names(connection)


_DEFINITIONS = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
coalesce(l.collname, '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v', 'm') AND a.attnum > 0
AND NOT a.attisdropped
UNION ALL
SELECT 'constraint', c.relname, k.conname, k.contype::text, k.convalidated::text,
replace(pg_get_constraintdef(k.oid), quote_ident(current_schema()) || '.', '')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = current_schema()::regnamespace AND k.contype <> 'n'
UNION ALL
SELECT 'index', c.relname, i.relname, x.indisunique::text, x.indisvalid::text,
(SELECT string_agg(pg_get_indexdef(x.indexrelid, n, true), ',' ORDER BY n) FROM generate_series(1, x.indnatts) n)
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace
UNION ALL
SELECT 'trigger', c.relname, t.tgname, '', t.tgenabled::text, ''
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = current_schema()::regnamespace AND (NOT t.tgisinternal OR t.tgenabled <> 'O')
UNION ALL
SELECT 'rule', tablename, rulename, '', '', '' FROM pg_rules WHERE schemaname = current_schema()
"""


def schema_digest(connection: Connection, revision: str) -> str:
    """SHA-256 over the definitions of all tables, constraints, indexes, triggers and rules of the schema."""
    rows = sorted([str(value) for value in row] for row in connection.exec_driver_sql(_DEFINITIONS))
    return hashlib.sha256(canonical_json([revision, rows])).hexdigest()


def structure_problems(connection: Connection) -> list[str]:
    """Rows that point nowhere, which only an administrator who switches the server's own checks off can make."""
    problems = []
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            there = exists().where(key.column == key.parent)
            query = select(func.count()).select_from(table).where(key.parent.is_not(None) & ~there)
            number = connection.execute(query).scalar_one()
            if number:
                problems.append(f"{number} rows of {table.name} point to rows of {key.column.table.name} not there")
    return problems
