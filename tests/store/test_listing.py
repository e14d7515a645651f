"""Listings: summaries with the latest verdict, quickly; and checks on what is in no leaf."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from askesis.errors import StoreCorrupt, StoreError
from askesis.store import Group, Store, TraceSummary

both = pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
"""The same test in a file and on a server."""


def test_a_summary_has_the_latest_verdict(full: Path) -> None:
    with Store.open(full, read_only=True) as store:
        rows = store.trace_summaries("R")
        assert len(rows) == 15 and store.trace_summaries("nobody") == []
        assert rows[0] == TraceSummary(
            trace_id="R/train/000000/000/0",
            group_id="R/train/000000/000",
            purpose="train",
            step=0,
            member_index=0,
            task_key="sum/0",
            environment="sums",
            policy_version=0,
            stop="terminated",
            failure=None,
            num_calls=1,
            num_tokens=50,
            num_sampled=30,
            status="ok",
            reward=1.1,
            completed=True,
            duration_s=0.25,
        )
        assert (rows[1].status, rows[1].reward, rows[1].completed) == ("error", None, None)
        assert (rows[2].status, rows[2].reward, rows[2].completed) == ("ok", 2.0, False)
        assert (rows[2].stop, rows[2].failure) == ("failed", "evaluator/timeout")
        assert store.trace_summaries("R", limit=4, offset=13) == rows[13:]


@pytest.mark.parametrize(
    ("sql", "read", "record"),
    [
        ("UPDATE runs SET status = 'failed'", lambda s: s.runs(), "run R"),
        ("UPDATE runs SET created_at = 1", lambda s: s.run("R"), "run R"),
        ("UPDATE runs SET record = x'7b7d'", lambda s: s.runs(), "run R"),
        ("UPDATE metrics SET value = 0.0 WHERE step = 1", lambda s: s.metrics("R"), "metric R loss 1"),
        (
            "UPDATE consumptions SET step = 9",
            lambda s: s.consumed("R"),
            "consumption R <- R/train/000000/000",
        ),
        (
            "UPDATE verdicts SET record = x'00'",
            lambda s: s.verdicts("R/train/000000/000/0"),
            "verdict R/train/000000/000/0#0",
        ),
    ],
)
def test_altered_values_are_not_returned(full: Path, sql: str, read: Callable[[Store], object], record: str) -> None:
    connection = sqlite3.connect(full)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with Store.open(full, read_only=True) as store:
        with pytest.raises(StoreCorrupt) as error:
            read(store)
        assert error.value.where == record


@both
def test_an_unknown_trace_has_no_history(store: Store) -> None:
    with pytest.raises(StoreError, match="no such trace"):
        store.verdicts("nothing")


def test_pages_come_from_indexes(store: Store, group: Callable[..., Group]) -> None:
    plan = "EXPLAIN QUERY PLAN SELECT group_id FROM groups WHERE run_id = 'R' AND purpose = 'train' AND step = 3"
    connection = sqlite3.connect(Path(store.where))
    ((_, _, _, detail),) = connection.execute(plan).fetchall()
    connection.close()
    assert "ix_groups_run_id_purpose_step (run_id=? AND purpose=? AND step=?)" in detail
