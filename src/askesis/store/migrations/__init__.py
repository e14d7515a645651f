"""The schema's history, run by Alembic from code (:func:`askesis.store.migrate.upgrade`)."""
