"""The first schema: what it makes never changes, since stores of it exist."""

from __future__ import annotations

from sqlalchemy import create_engine, inspect

from askesis.store.migrate import upgrade

TABLES = {
    "alembic_version",
    "blobs",
    "consumptions",
    "groups",
    "log",
    "log_state",
    "meta",
    "metrics",
    "nodes",
    "runs",
    "tasks",
    "traces",
    "verdicts",
}


def test_it_makes_these_tables_and_this_index() -> None:
    with create_engine("sqlite://").connect() as connection:
        upgrade(connection, "0001")
        found = inspect(connection)
        assert set(found.get_table_names()) == TABLES
        own = [i["column_names"] for i in found.get_indexes("groups") if not i["unique"]]
        assert own == [["run_id", "purpose", "step"]]
        upgrade(connection, "0001")
