"""Any question, no change."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from askesis.errors import StoreError
from askesis.store import Store, query


def test_columns_rows_and_limit(full: Path) -> None:
    columns, rows = query(full, "SELECT trace_id AS id, num_tokens FROM traces ORDER BY leaf")
    assert columns == ("id", "num_tokens") and len(rows) == 15 and rows[0] == ("R/train/000000/000/0", 50)
    assert query(full, "SELECT 1 AS one UNION ALL SELECT 2", limit=1) == (("one",), [(1,)])
    recursive = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    assert query(full, recursive, limit=3)[1] == [(1,), (2,), (3,)]
    assert query(full, "SELECT avg(reward) FROM verdicts WHERE status = 'ok' AND evaluator = 'exact/1'")[1] == [(1.1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM traces",
        "UPDATE verdicts SET reward = 1",
        "INSERT INTO meta VALUES ('a', 'b')",
        "DROP TABLE traces",
        "CREATE TEMP TABLE t (x)",
        "ATTACH DATABASE '/nowhere/x.db' AS y",
        "PRAGMA query_only=OFF",
        "PRAGMA writable_schema=ON",
        "VACUUM INTO '/nowhere/x.db'",
        "BEGIN IMMEDIATE",
        "SELECT 1; DELETE FROM traces",
        "SELECT load_extension('x')",
        "nonsense",
        "SELECT nothing FROM traces",
        "SELECT '\ud800'",
        "SELECT 1 \0",
        "",
        "-- only a comment",
    ],
)
def test_all_else_is_refused(full: Path, sql: str) -> None:
    before = full.read_bytes()
    with pytest.raises(StoreError, match=r"refused|empty") as error:
        query(full, sql)
    assert error.value.where == str(full)
    assert full.read_bytes() == before


def test_a_question_beside_the_writer(store: Store) -> None:
    store.log_metrics("R", 1, {"loss": 0.5})
    assert query(store.where, "SELECT value FROM metrics")[1] == [(0.5,)]


def test_text_that_is_no_unicode_is_shown_escaped(full: Path) -> None:
    raw = sqlite3.connect(full)
    raw.execute("UPDATE meta SET value = CAST(x'61ff62' AS TEXT)")
    raw.commit()
    raw.close()
    assert query(full, "SELECT value FROM meta")[1] == [("a\\xffb",)]


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store here"):
        query(tmp_path / "none.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []
