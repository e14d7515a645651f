"""What is read, apart from whole groups.

Logged values are checked against their leaves, the others against their checksums; a listing is not checked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from askesis.errors import StoreError
from askesis.store import schema
from askesis.store.canonical import altered, checksum, consumption_leaf, decoding, from_json, run_leaf, run_of
from askesis.store.reading import check_verdict_row, verdict_rows
from askesis.store.records import RunEntry, TraceSummary
from askesis.trace import Verdict

__all__ = [
    "check_consumption_row",
    "check_metric_row",
    "check_run_row",
    "consumed",
    "metrics",
    "runs",
    "trace_summaries",
    "verdicts",
]


def check_run_row(row: Row[Any]) -> RunEntry:
    """The run of a row. Raises StoreCorrupt if it is not what was logged."""
    record = f"run {row.run_id}"
    with decoding(record):
        run = run_of(row.run_id, from_json(row.record))
        if run_leaf(run).hash != row.leaf_hash:
            raise altered(record, "its content does not match its leaf in the log")
        if row.checksum != checksum(row.run_id, row.status, row.created_at):
            raise altered(record, "its status or time does not match its checksum")
        return RunEntry(record=run, status=row.status, created_at=row.created_at)


def runs(connection: Connection, run_id: str | None) -> list[RunEntry]:
    """All runs in stored order, or the one called ``run_id``."""
    table, log = schema.runs, schema.log
    query = select(table, log.c.hash.label("leaf_hash")).outerjoin(log, log.c.leaf == table.c.leaf)
    if run_id is not None:
        query = query.where(table.c.run_id == run_id)
    with decoding("table runs"):
        return [check_run_row(row) for row in connection.execute(query.order_by(table.c.leaf)).all()]


def verdicts(connection: Connection, trace_id: str) -> list[Verdict]:
    """The history of a trace's verdicts."""
    with decoding(f"trace {trace_id}"):
        history = [check_verdict_row(row) for row in verdict_rows(connection, schema.traces.c.trace_id == trace_id)]
    if not history:
        raise StoreError("the store has no such trace", where=f"trace {trace_id}", next_step="append its group first")
    return history


def check_consumption_row(row: Row[Any]) -> tuple[str, int]:
    """Group and step of a row. Raises StoreCorrupt if they are not what was logged."""
    leaf = consumption_leaf(row.run_id, row.group_id, row.step)
    if leaf.hash != row.leaf_hash:
        raise altered(f"consumption {leaf.record}", "its content does not match its leaf in the log")
    return row.group_id, row.step


def consumed(connection: Connection, run_id: str) -> dict[str, int]:
    """Step by group."""
    table, log = schema.consumptions, schema.log
    query = (
        select(table, log.c.hash.label("leaf_hash"))
        .outerjoin(log, log.c.leaf == table.c.leaf)
        .where(table.c.run_id == run_id)
        .order_by(table.c.leaf)
    )
    with decoding("table consumptions"):
        return dict(check_consumption_row(row) for row in connection.execute(query).all())


def check_metric_row(row: Row[Any]) -> None:
    """Raises StoreCorrupt if a metric is not what was written."""
    if row.checksum != checksum(row.run_id, row.name, row.step, row.value):
        raise altered(f"metric {row.run_id} {row.name} {row.step}", "it does not match its checksum")


def metrics(connection: Connection, run_id: str, from_step: int = 0) -> dict[str, list[tuple[int, float | None]]]:
    """Steps and values by name."""
    table = schema.metrics
    query = select(table).where(table.c.run_id == run_id).order_by(table.c.name, table.c.step)
    if from_step:
        query = query.where(table.c.step >= from_step)
    series: dict[str, list[tuple[int, float | None]]] = {}
    with decoding("table metrics"):
        for row in connection.execute(query).all():
            check_metric_row(row)
            series.setdefault(row.name, []).append((row.step, row.value))
    return series


_PLAIN = (
    "trace_id",
    "group_id",
    "member_index",
    "policy_version",
    "stop",
    "failure",
    "num_calls",
    "num_tokens",
    "num_sampled",
    "duration_s",
)


def _summaries(run_id: str, limit: int, offset: int) -> Select[Any]:
    traces, groups, tasks, verdicts = schema.traces, schema.groups, schema.tasks, schema.verdicts
    page = (  # the page is cut before anything else is joined to it
        select(traces.c.leaf)
        .join(groups, groups.c.group_id == traces.c.group_id)
        .where(groups.c.run_id == run_id)
        .order_by(traces.c.leaf)
        .limit(limit)
        .offset(offset)
        .subquery()
    )
    latest = (
        select(func.max(verdicts.c.sequence))
        .where(verdicts.c.trace_id == traces.c.trace_id)
        .correlate(traces)
        .scalar_subquery()
    )
    columns = [*(traces.c[name] for name in _PLAIN), groups.c.purpose, groups.c.step]
    columns += [tasks.c.task_key, tasks.c.environment, verdicts.c.status, verdicts.c.reward, verdicts.c.completed]
    return (
        select(*columns)
        .select_from(page)
        .join(traces, traces.c.leaf == page.c.leaf)
        .join(groups, groups.c.group_id == traces.c.group_id)
        .join(tasks, tasks.c.task_hash == groups.c.task_hash)
        .join(verdicts, (verdicts.c.trace_id == traces.c.trace_id) & (verdicts.c.sequence == latest))
        .order_by(traces.c.leaf)
    )


def trace_summaries(connection: Connection, run_id: str, limit: int, offset: int) -> list[TraceSummary]:
    """A page of the traces of a run."""
    with decoding("table traces"):
        rows = connection.execute(_summaries(run_id, limit, offset)).mappings().all()
        return [
            TraceSummary(**{**row, "completed": None if row["completed"] is None else bool(row["completed"])})
            for row in rows
        ]
