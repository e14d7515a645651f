"""A store from one database to another: every value of every table, and so the same Merkle head."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Table, delete, select, text

from askesis.errors import StoreConflict, StoreCorrupt
from askesis.store.bulk import chunks, insert_rows
from askesis.store.log import head_of, read_frontier
from askesis.store.records import Head
from askesis.store.schema import log, log_state, meta, metadata
from askesis.store.store import Store

__all__ = ["copy_store"]

_ROWS_AT_ONCE = 2000


def copy_store(source: Path | str, target: Path | str) -> Head:
    """Copy the store at ``source`` (a path or a URL) to ``target``, whole or not at all; returns the head of both.

    The source is read as it stands at one moment; others may go on writing to it.

    Raises:
        StoreConflict: the target holds something already.
        StoreCorrupt: the rows of the source's log do not give its head.
        StoreError: either cannot be opened, see :meth:`Store.open`.
    """
    with Store.open(source, create=False, read_only=True) as old, Store.open(target) as new:
        return old._read(lambda reading: new._write(lambda writing: _copy(reading, writing, new.where)))


def _copy(reading: Connection, writing: Connection, where: str) -> Head:
    if read_frontier(writing).size or any(_first(writing, table) for table in _tables()):
        raise StoreConflict(
            "the target holds records already", where=where, next_step="name a new file, or an empty database"
        )
    writing.execute(delete(log_state))
    for table in [log_state, *_tables()]:
        rows = reading.execute(select(table).order_by(*table.primary_key)).yield_per(_ROWS_AT_ONCE)
        for part in chunks(rows, _ROWS_AT_ONCE):
            insert_rows(writing, table, part)
    head = head_of(read_frontier(writing))
    (leaves,) = writing.execute(select(log.c.leaf).order_by(log.c.leaf.desc()).limit(1)).scalars().all() or (-1,)
    if leaves + 1 != head.size:
        raise StoreCorrupt(
            "the source's log does not have as many leaves as its head says",
            got=leaves + 1,
            expected=head.size,
            next_step="run `askesis store verify` on the source, then restore a backup",
        )
    if writing.dialect.name == "postgresql":
        writing.execute(text("ANALYZE"))  # until then its plans are made for empty tables
    return head


def _tables() -> list[Table]:
    """All tables that hold records, each after those that it points to."""
    return [table for table in metadata.sorted_tables if table not in (meta, log_state)]


def _first(connection: Connection, table: Table) -> bool:
    return connection.execute(select(*table.primary_key).limit(1)).first() is not None
