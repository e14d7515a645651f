"""What a store asks of its database: SQLite in a file, or PostgreSQL at a URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from askesis.errors import StoreError

__all__ = ["Catalog", "Database", "StoreUnreachable", "catalog_of", "is_url"]

Result = TypeVar("Result")


class StoreUnreachable(StoreError):
    """The database server does not answer, or went away in the middle; nothing of an unfinished write was kept."""


class Database(Protocol):
    """An open database. Used from one thread of the process that opened it."""

    where: str
    """How messages name it: a path, or an address without password."""
    writable: bool

    @property
    def closed(self) -> bool:
        """Was it closed?"""
        ...

    def do(self, work: Callable[[Connection], Result], *, writes: bool) -> Result:
        """Run ``work`` in a transaction: all or nothing. Writers come one after the other.

        ``work`` must bear a second call: it is repeated when a server went away, even if only the answer was lost.

        Raises:
            StoreBusy, StoreFull, StoreCorrupt, StoreUnreachable, StoreError: what the database said, in our words.
        """
        ...

    def migrate(self, work: Callable[[Connection], None]) -> None:
        """Run ``work``, which makes or changes tables, in a transaction that nobody else migrates beside."""
        ...

    def lock_run(self, run_id: str) -> None:
        """Keep other processes from driving the run until this is closed. Raises StoreBusy."""
        ...

    def make_durable(self) -> None:
        """Everything stored so far survives a power cut after this."""
        ...

    def close(self) -> None:
        """Let go. A second call does nothing."""
        ...


class Catalog(Protocol):
    """What a database knows of its tables. The modules ``sqlite`` and ``postgres`` are such."""

    def table_names(self, connection: Connection) -> set[str]:
        """The tables there are."""
        ...

    def is_blank(self, connection: Connection) -> bool:
        """Was nothing ever written here?"""
        ...

    def schema_digest(self, connection: Connection, revision: str) -> str:
        """SHA-256 over the definitions of everything: a damaged definition would change what columns mean."""
        ...

    def structure_problems(self, connection: Connection) -> list[str]:
        """What the database's own checks say."""
        ...


def catalog_of(connection: Connection) -> Catalog:
    """The catalog of the database at the other end."""
    from askesis.store import postgres, sqlite

    return postgres if connection.dialect.name == "postgresql" else sqlite


def is_url(target: object) -> bool:
    """Is this the address of a server, and no path?"""
    return isinstance(target, str) and "://" in target
