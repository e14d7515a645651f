"""Alembic runs this file. The connection, its transaction already open, comes from :mod:`askesis.store.migrate`."""

from __future__ import annotations

from alembic import context

from askesis.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
