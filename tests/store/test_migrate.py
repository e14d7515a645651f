"""New files become stores; damaged, foreign and newer ones are refused by name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from askesis.errors import StoreCorrupt, StoreError
from askesis.store import Group, Store, migrate
from askesis.store.migrate import REVISIONS, prepare, upgrade
from askesis.store.sqlite import SqliteDatabase, connect, schema_digest, table_names, transaction


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == REVISIONS


def test_a_new_file_is_prepared_in_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    database = SqliteDatabase(path, create=True, read_only=False, wait_s=1.0)

    def fail(connection: Connection) -> None:
        upgrade(connection, REVISIONS[-1])
        assert "traces" in table_names(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.migrate(fail)
    assert database.do(table_names, writes=False) == set()
    with pytest.raises(StoreError, match="there is no store here"):
        prepare(database, create=False)
    prepare(database, create=True)
    prepare(database, create=False)
    assert {"traces", "log", "ready", "alembic_version"} <= database.do(table_names, writes=False)
    database.close()


def test_an_older_store_is_brought_up_to_date_with_its_queue(store: Store, group: Callable[..., Group]) -> None:
    for number in range(3):
        store.append_group(group(number, members=1))
    store.append_group(group(3, members=3))  # with a pending verdict
    store.consume("R", ["R/train/000001/000"], step=0)
    head = store.head()
    store.close()
    database = SqliteDatabase(Path(store.where), create=False, read_only=False, wait_s=1.0)

    def downgrade(connection: Connection) -> None:
        connection.exec_driver_sql("DROP INDEX ix_consumptions_run_id_step")
        connection.exec_driver_sql("DROP TABLE ready")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        connection.exec_driver_sql("UPDATE meta SET value = ?", (schema_digest(connection, "0001"),))

    database.do(downgrade, writes=True)
    database.close()
    with pytest.raises(StoreError, match="older schema"):
        Store.open(store.where, read_only=True)
    with Store.open(store.where) as again:
        assert again.head() == head and again.num_ready("R") == 2 and again.verify().ok


def test_an_empty_file_is_no_store_for_a_reader(tmp_path: Path) -> None:
    (tmp_path / "s.db").touch()
    with pytest.raises(StoreError, match="empty or has an older schema") as error:
        Store.open(tmp_path / "s.db", read_only=True)
    assert error.value.next_step == "open it for writing once"


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "CREATE TABLE notes (x)", "INSERT INTO notes VALUES (1)")
    for read_only in (True, False):
        with pytest.raises(StoreCorrupt, match="not an Askesis store"):
            Store.open(path, read_only=read_only)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX ix_groups_run_id_purpose_step",
        "CREATE TRIGGER t AFTER INSERT ON metrics BEGIN DELETE FROM metrics; END",
        "UPDATE meta SET value = 'x'",
        "DELETE FROM meta",
        "UPDATE alembic_version SET version_num = '9999'",
        "ALTER TABLE runs RENAME COLUMN status TO state",
    ],
)
def test_changed_definitions_are_damage(full: Path, statement: str) -> None:
    change(full, statement)
    with pytest.raises(StoreCorrupt, match="definitions of the tables are damaged") as error:
        Store.open(full)
    assert error.value.where == str(full)


def test_a_store_without_its_own_tables_is_damage(full: Path) -> None:
    change(full, "DROP TABLE meta")
    with pytest.raises(StoreCorrupt, match="not an Askesis store"):
        Store.open(full)


def test_a_newer_schema_is_refused_with_the_remedy(full: Path) -> None:
    connection = connect(full, mode="rw", busy_timeout_s=1.0)
    with transaction(connection, writes=True):
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        digest = schema_digest(connection, "9999")
        connection.exec_driver_sql("UPDATE meta SET value = ?", (digest,))
    connection.close()
    with pytest.raises(StoreError, match="a newer askesis wrote this store") as error:
        Store.open(full)
    assert error.value.got == "9999" and error.value.next_step == "pip install --upgrade askesis"
    assert not isinstance(error.value, StoreCorrupt)
