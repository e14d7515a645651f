"""From an empty file, or from an older schema, to the present one."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DBAPIError

from askesis.errors import StoreCorrupt, StoreError
from askesis.store.database import Database, catalog_of
from askesis.store.log import create_log
from askesis.store.schema import meta

__all__ = ["REVISIONS", "prepare", "upgrade"]

REVISIONS = ("0001", "0002")
"""All revisions, oldest first. A test compares them with the migration files."""
_DIGEST = "schema_digest"


def prepare(database: Database, *, create: bool) -> None:
    """Bring the schema up to date, or say why that cannot be. A blank database becomes an empty store if ``create``.

    Raises:
        StoreCorrupt: the definitions of the tables are not what was written.
        StoreError: it is no store, or of another version of the schema.
    """
    where = database.where
    revision = database.do(lambda c: _revision(c, where), writes=False)
    if revision == REVISIONS[-1]:
        return
    if revision is None and not create:
        raise StoreError("there is no store here", where=where, next_step="check the path; training creates the store")
    if not database.writable:
        raise StoreError(
            "the store is empty or has an older schema, which reading cannot change",
            where=where,
            got=revision,
            expected=REVISIONS[-1],
            next_step="open it for writing once",
        )
    database.migrate(lambda c: _migrate(c, where))


def _migrate(connection: Connection, where: str) -> None:
    revision = _revision(connection, where)
    if revision == REVISIONS[-1]:
        return  # another process was faster
    upgrade(connection, REVISIONS[-1])
    if revision is None:
        create_log(connection)


def _revision(connection: Connection, where: str) -> str | None:
    """The schema's revision, None for a blank database. Raises StoreCorrupt or StoreError."""
    catalog = catalog_of(connection)
    if catalog.is_blank(connection):
        return None
    if not {"meta", "alembic_version"} <= catalog.table_names(connection):
        raise StoreCorrupt(
            "this database is not an Askesis store, or its table of contents is damaged",
            where=where,
            next_step="check the path; if it is a store, restore a backup",
        )
    try:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        digest = connection.execute(select(meta.c.value).where(meta.c.name == _DIGEST)).scalar()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        raise _damaged(where, error.orig) from error
    if digest != catalog.schema_digest(connection, str(revision)):
        raise _damaged(where, digest)
    if revision not in REVISIONS:
        raise StoreError(
            "a newer askesis wrote this store",
            where=where,
            got=revision,
            expected=f"a schema up to {REVISIONS[-1]}",
            next_step="pip install --upgrade askesis",
        )
    return str(revision)


def _damaged(where: str, got: object) -> StoreCorrupt:
    return StoreCorrupt("the definitions of the tables are damaged", where=where, got=got, next_step="restore a backup")


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
    digest = catalog_of(connection).schema_digest(connection, revision)
    connection.execute(insert(meta), {"name": _DIGEST, "value": digest})
