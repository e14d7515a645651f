"""What is appended, each inside a writing transaction that the caller opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from askesis.errors import StoreConflict, StoreError
from askesis.store.canonical import (
    Leaf,
    checksum,
    consumption_leaf,
    printable,
    run_leaf,
    run_to_dict,
    verdict_leaf,
    verdict_to_dict,
)
from askesis.store.log import append_leaves, is_logged
from askesis.store.records import Group, RunRecord, checked_int, checked_name
from askesis.store.rows import GroupWrite, verdict_columns
from askesis.store.schema import consumptions, groups, log, metrics, runs, tasks, verdicts
from askesis.trace import Verdict, canonical_json

__all__ = ["add_run", "append_group", "append_verdict", "consume", "log_metrics", "set_run_status"]

_STATUSES = ("running", "finished", "failed")


def _conflict(what: str, where: str, *, got: object = None, expected: object = None) -> StoreConflict:
    return StoreConflict(
        what,
        where=where,
        got=got,
        expected=expected,
        next_step="nothing was changed; use a new name, or find out why the same step gave another result",
    )


def _missing(what: str, where: str, next_step: str) -> StoreError:
    return StoreError(f"the store has no such {what}", where=where, next_step=next_step)


def _run_must_exist(connection: Connection, run_id: str) -> None:
    if connection.execute(select(runs.c.leaf).where(runs.c.run_id == run_id)).first() is None:
        raise _missing("run", f"run {run_id}", "call add_run first")


def add_run(connection: Connection, run: RunRecord, created_at: float) -> None:
    """Store a run, which starts as running."""
    checked_name(run.run_id, "run_id")
    leaf = run_leaf(run)
    known = connection.execute(select(runs.c.leaf).where(runs.c.run_id == run.run_id)).scalar()
    if known is not None:
        if not is_logged(connection, known, leaf):
            raise _conflict("another run has this name", f"run {run.run_id}")
        return
    row = {
        "leaf": append_leaves(connection, [leaf]),
        "run_id": run.run_id,
        "record": canonical_json(run_to_dict(run)),
        "status": "running",
        "created_at": created_at,
        "checksum": checksum(run.run_id, "running", created_at),
    }
    connection.execute(insert(runs), row)


def set_run_status(connection: Connection, run_id: str, status: str) -> None:
    """Overwrite the status of a run."""
    if status not in _STATUSES:
        raise StoreError("unknown status of a run", where=f"run {run_id}", got=status, expected=_STATUSES)
    row = connection.execute(select(runs.c.leaf, runs.c.created_at).where(runs.c.run_id == run_id)).first()
    if row is None:
        raise _missing("run", f"run {run_id}", "call add_run first")
    values = {"status": status, "checksum": checksum(run_id, status, row.created_at)}
    connection.execute(update(runs).where(runs.c.leaf == row.leaf).values(**values))


def append_group(connection: Connection, group: Group, created_at: float) -> None:
    """Store a group with everything in it."""
    new = GroupWrite(group)
    known = connection.execute(select(groups.c.leaf).where(groups.c.group_id == group.group_id)).scalar()
    if known is not None:
        _must_be_equal(connection, known, new)
        return
    _run_must_exist(connection, group.run_id)
    has_task = connection.execute(select(tasks.c.leaf).where(tasks.c.task_hash == new.task.record)).first() is not None
    first = append_leaves(connection, [*([] if has_task else [new.task]), *new.leaves()])
    if not has_task:
        row = {
            "leaf": first,
            "task_hash": new.task.record,
            "task_key": printable(group.task.key),
            "environment": printable(group.task.environment),
            "record": new.task_record,
        }
        connection.execute(insert(tasks), row)
        first += 1
    new.insert(connection, first, created_at)


def _must_be_equal(connection: Connection, first: int, new: GroupWrite) -> None:
    leaves = new.leaves()
    query = select(log.c.hash).where(log.c.leaf.between(first, first + len(leaves) - 1)).order_by(log.c.leaf)
    stored = list(connection.execute(query).scalars())
    for leaf, known in zip(leaves, stored, strict=False):
        if leaf.hash != known:
            raise _conflict("the group is already stored with other content", f"{leaf.kind} {leaf.record}")
    if len(stored) < len(leaves):
        raise _conflict("the group is already stored with other content", f"group {new.group.group_id}")


def append_verdict(connection: Connection, trace_id: str, verdict: Verdict) -> int:
    """Add a verdict to a trace unless it equals the latest one."""
    latest = connection.execute(
        select(verdicts.c.sequence, verdicts.c.leaf)
        .where(verdicts.c.trace_id == trace_id)
        .order_by(verdicts.c.sequence.desc())
        .limit(1)
    ).first()
    if latest is None:
        raise _missing("trace", f"trace {trace_id}", "append its group first")
    content = verdict_to_dict(verdict)
    if is_logged(connection, latest.leaf, verdict_leaf(trace_id, latest.sequence, content)):
        return int(latest.sequence)
    sequence = int(latest.sequence) + 1
    row = {
        "leaf": append_leaves(connection, [verdict_leaf(trace_id, sequence, content)]),
        "trace_id": trace_id,
        "sequence": sequence,
        "record": canonical_json(content),
        **verdict_columns(verdict),
    }
    connection.execute(insert(verdicts), row)
    return sequence


def consume(connection: Connection, run_id: str, group_ids: Sequence[str], step: int) -> None:
    """Note the use of groups, each once per run."""
    checked_int(step, "step")
    _run_must_exist(connection, run_id)
    leaves: list[Leaf] = []
    rows: list[dict[str, Any]] = []
    for group_id in dict.fromkeys(group_ids):
        chosen = (consumptions.c.run_id == run_id) & (consumptions.c.group_id == group_id)
        known = connection.execute(select(consumptions.c.step).where(chosen)).scalar()
        if known is not None and known != step:
            raise _conflict(
                "a group was already consumed by another step", f"group {group_id}", got=step, expected=f"step {known}"
            )
        if known is not None:
            continue
        if connection.execute(select(groups.c.leaf).where(groups.c.group_id == group_id)).first() is None:
            raise _missing("group", f"group {group_id}", "append the group before a step consumes it")
        leaves.append(consumption_leaf(run_id, group_id, step))
        rows.append({"run_id": run_id, "group_id": group_id, "step": step})
    if rows:
        first = append_leaves(connection, leaves)
        connection.execute(insert(consumptions), [{"leaf": first + i, **row} for i, row in enumerate(rows)])


def log_metrics(connection: Connection, run_id: str, step: int, values: Mapping[str, float | None]) -> None:
    """Write the numbers of a step, over older ones of the same names."""
    checked_int(step, "step")
    _run_must_exist(connection, run_id)
    rows = [
        {
            "run_id": run_id,
            "name": checked_name(name, "metric name"),
            "step": step,
            "value": value,
            "checksum": checksum(run_id, name, step, value),
        }
        for name, value in values.items()
    ]
    if not rows:
        return
    old = (metrics.c.run_id == run_id) & (metrics.c.step == step) & (metrics.c.name == bindparam("old_name"))
    connection.execute(delete(metrics).where(old), [{"old_name": name} for name in values])
    connection.execute(insert(metrics), rows)
