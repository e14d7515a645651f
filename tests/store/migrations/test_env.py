"""Alembic's file runs inside the caller's transaction and commits nothing itself."""

from __future__ import annotations

from sqlalchemy import create_engine, event, inspect

from askesis.store.migrate import REVISIONS, upgrade


def test_nothing_is_committed_by_the_migration_itself() -> None:
    engine = create_engine("sqlite://")
    commits: list[object] = []
    event.listen(engine, "commit", commits.append)
    with engine.connect() as connection, connection.begin():
        upgrade(connection, REVISIONS[-1])
        assert connection.in_transaction() and commits == []
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() == [(REVISIONS[-1],)]
        assert "traces" in inspect(connection).get_table_names()
