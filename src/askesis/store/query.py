"""Questions to a store in SQL, read only."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from askesis.errors import StoreError
from askesis.store.database import is_url
from askesis.store.sqlite import raw_connection, translated

__all__ = ["query"]

_BUSY_TIMEOUT_S = 10.0
_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE))


Answer = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def query(target: Path | str, sql: str, *, limit: int = 1000) -> Answer:
    """Run one SELECT on the store in a file or at a URL; at most ``limit`` rows come back.

    Three locks keep it from changing a file: it is opened for reading, the connection is told to only query, and every
    action but reading (ATTACH and PRAGMA too) is refused when the statement is compiled. On a server the transaction is
    read-only and the statement must be one that a cursor can be declared for; what functions the user may call is the
    server's to say, so give those who only look a user that can only SELECT.

    Returns:
        The names of the columns, and the rows.

    Raises:
        StoreError: no store there, more than one statement, a write, or wrong SQL.
    """
    if is_url(target):
        from askesis.store.postgres import select_rows

        return select_rows(str(target), sql, limit=limit, wait_s=_BUSY_TIMEOUT_S)
    path = Path(target)
    if not path.is_file():
        raise StoreError("there is no store here", where=str(path), next_step="check the path")
    with translated(path, _BUSY_TIMEOUT_S):
        connection = raw_connection(path, mode="ro", busy_timeout_s=_BUSY_TIMEOUT_S)
        try:
            connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
            connection.set_authorizer(_authorize)
            return _run(connection, path, sql, limit)
        finally:
            connection.close()


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _run(connection: sqlite3.Connection, path: Path, sql: str, limit: int) -> Answer:
    try:
        cursor = connection.execute(sql)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, ValueError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code not in (None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
            raise
        raise StoreError(
            "the query was refused",
            where=str(path),
            got=str(error),
            expected="one SELECT statement over the tables of the store",
            next_step="SELECT name, sql FROM sqlite_master shows the tables",
        ) from error
    if cursor.description is None:
        raise StoreError("the query is empty", where=str(path), got=sql, expected="one SELECT statement")
    return tuple(column[0] for column in cursor.description), cursor.fetchmany(limit)
