"""Many rows at once, past the parts of SQLAlchemy that cost more than the insert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table

__all__ = ["MAX_PARAMETERS", "chunks", "insert_rows"]

Item = TypeVar("Item")

MAX_PARAMETERS = 500
"""Values in one IN list; SQLite's oldest limit is 999."""
_FEWEST_COPIED = 8
"""PostgreSQL: below this many rows, starting a COPY costs more than it saves."""


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """``items`` in lists of ``size``; the last may be shorter."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def insert_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert ``rows``, each with a value for every column in the table's order."""
    if not rows:
        return
    is_postgres = connection.dialect.name == "postgresql"
    insert, copy = _statements(table, "%s" if is_postgres else "?")
    if not is_postgres or len(rows) < _FEWEST_COPIED:
        connection.exec_driver_sql(insert, [tuple(row) for row in rows])
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(copy) as stream:
        for row in rows:
            stream.write_row(row)


@cache
def _statements(table: Table, placeholder: str) -> tuple[str, str]:
    """The INSERT and the COPY of a table. Its names are ours, and none needs quotes."""
    names = ", ".join(column.name for column in table.c)
    marks = ", ".join(placeholder for _ in table.c)
    insert = f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
    return insert, f"COPY {table.name} ({names}) FROM STDIN"
