"""Paths and URLs are told apart, and each database brings its own catalog."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from askesis.errors import StoreError
from askesis.store import Store
from askesis.store.database import StoreUnreachable, catalog_of, is_url
from askesis.store.schema import metadata


def test_urls_and_paths() -> None:
    assert is_url("postgresql://u@h/d") and is_url("mysql://x")
    assert not is_url("runs/a/store.db") and not is_url(Path("postgresql://u@h/d")) and not is_url("C:\\store.db")


def test_the_error_of_a_lost_server_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(StoreUnreachable("gone", where="here", next_step="start it")))  # noqa: S301
    assert isinstance(error, StoreUnreachable) and isinstance(error, StoreError) and "start it" in str(error)


@pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
def test_each_catalog_knows_our_tables(store: Store) -> None:
    names = store._read(lambda c: catalog_of(c).table_names(c))
    assert names == {table.name for table in metadata.sorted_tables} | {"alembic_version"}
    assert not store._read(lambda c: catalog_of(c).is_blank(c))
    assert store._read(lambda c: catalog_of(c).structure_problems(c)) == []
    first = store._read(lambda c: catalog_of(c).schema_digest(c, "0002"))
    assert first != store._read(lambda c: catalog_of(c).schema_digest(c, "0003"))
