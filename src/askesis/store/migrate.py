"""From an empty file, or from an older schema, to the present one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError

from askesis.errors import StoreCorrupt, StoreError
from askesis.store.log import create_log
from askesis.store.schema import meta
from askesis.store.sqlite import check_length, is_blank, schema_digest, table_names, transaction

__all__ = ["REVISIONS", "prepare", "upgrade"]

REVISIONS = ("0001",)
"""All revisions, oldest first. A test compares them with the migration files."""
_DIGEST = "schema_digest"


def prepare(connection: Connection, path: Path, *, writable: bool) -> None:
    """Bring the schema up to date, or say why that cannot be. A new file becomes an empty store.

    Raises:
        StoreCorrupt: the definitions of the tables are not what was written.
        StoreError: the file is no store, or of another version of the schema.
    """
    with transaction(connection, writes=False):
        check_length(connection, path)
        revision = None if is_blank(connection) else _revision(connection, path)
    if revision == REVISIONS[-1]:
        return
    if not writable:
        raise StoreError(
            "the store is empty or has an older schema, which reading cannot change",
            where=str(path),
            got=revision,
            expected=REVISIONS[-1],
            next_step="open it for writing once",
        )
    with transaction(connection, writes=True):
        upgrade(connection, REVISIONS[-1])
        if revision is None:
            create_log(connection)


def _revision(connection: Connection, path: Path) -> str:
    if not {"meta", "alembic_version"} <= table_names(connection):
        raise StoreCorrupt(
            "this database is not an Askesis store, or its table of contents is damaged",
            where=str(path),
            next_step="check the path; if it is a store, restore a backup",
        )
    try:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        digest = connection.execute(select(meta.c.value).where(meta.c.name == _DIGEST)).scalar()
    except DBAPIError as error:
        raise _damaged(path, error.orig) from error
    if digest != schema_digest(connection, str(revision)):
        raise _damaged(path, digest)
    if revision not in REVISIONS:
        raise StoreError(
            "a newer askesis wrote this store",
            where=str(path),
            got=revision,
            expected=f"a schema up to {REVISIONS[-1]}",
            next_step="pip install --upgrade askesis",
        )
    return str(revision)


def _damaged(path: Path, got: object) -> StoreCorrupt:
    return StoreCorrupt(
        "the definitions of the tables are damaged", where=str(path), got=got, next_step="restore a backup"
    )


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to ``revision`` inside the open transaction."""
    from alembic import command  # only a new or an older store pays for loading it
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.execute(delete(meta).where(meta.c.name == _DIGEST))
    connection.execute(insert(meta), {"name": _DIGEST, "value": schema_digest(connection, revision)})
