"""The tables in the code are the tables that the migrations make, on any database."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from askesis.store import Store
from askesis.store.schema import LOGGED, metadata


def test_the_migrations_make_these_tables(tmp_path: Path) -> None:
    Store.open(tmp_path / "s.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 's.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_logged_record_is_keyed_by_its_leaf() -> None:
    assert list(LOGGED) == ["run", "task", "group", "trace", "verdict", "consumption"]
    for table in LOGGED.values():
        assert [c.name for c in table.primary_key] == ["leaf"]
        assert [f.target_fullname for f in table.c.leaf.foreign_keys] == ["log.leaf"]


def test_the_tables_are_portable() -> None:
    text = "".join(str(CreateTable(t).compile(dialect=postgresql.dialect())) for t in metadata.sorted_tables)
    assert "BYTEA" in text and "BIGINT" in text and "DOUBLE PRECISION" in text and "SERIAL" not in text
