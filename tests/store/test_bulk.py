"""Rows in bulk: past SQLAlchemy, into both databases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from askesis.store import Store
from askesis.store.bulk import chunks, insert_rows
from askesis.store.schema import metrics


@given(st.lists(st.integers(), max_size=30), st.integers(1, 12))
@settings(max_examples=50)
def test_chunks_lose_nothing(items: list[int], size: int) -> None:
    parts = list(chunks(items, size))
    assert [x for part in parts for x in part] == items
    assert all(0 < len(part) <= size for part in parts) and all(len(part) == size for part in parts[:-1])


@pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
@pytest.mark.parametrize("number", [0, 1, 7, 8, 700])
def test_rows_come_back_as_they_were(store: Store, number: int) -> None:
    values = [None, 0.1, -0.5, float("inf"), 1e-308, 3.0, 1 / 3]
    texts = ["a\\N", "x'y", "tab\\t", 'q"', "%s", "$1", "\u00e9\U0001f600"]
    rows = [("R", f"{texts[i % 7]}{i}", i - 3, values[i % 7], bytes([i % 256, 0, 92, 39])) for i in range(number)]

    def there_and_back(connection: object) -> list[tuple[object, ...]]:
        insert_rows(connection, metrics, rows)  # type: ignore[arg-type]
        return [tuple(r) for r in connection.execute(select(metrics).order_by(metrics.c.step))]  # type: ignore[attr-defined]

    assert store._write(there_and_back) == rows
