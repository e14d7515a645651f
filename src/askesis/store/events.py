"""What is appended, each inside a writing transaction that the caller opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Column, Connection, bindparam, delete, insert, select, update

from askesis.errors import StoreConflict, StoreError
from askesis.store.bulk import MAX_PARAMETERS, chunks, insert_rows
from askesis.store.canonical import (
    Leaf,
    checksum,
    consumption_leaf,
    run_leaf,
    run_to_dict,
    verdict_leaf,
    verdict_to_dict,
)
from askesis.store.log import append_leaves, is_logged, read_frontier
from askesis.store.queue import claimed, next_ready, offer_if_complete, withdraw
from askesis.store.records import RunRecord, checked_int, checked_name
from askesis.store.rows import GroupWrite, Rows, insert_blobs, verdict_columns
from askesis.store.schema import consumptions, groups, log, metrics, nodes, ready, runs, tasks, traces, verdicts
from askesis.trace import Verdict, VerdictStatus, canonical_json

__all__ = ["add_run", "append_groups", "append_verdict", "claim", "consume", "log_metrics", "set_run_status"]

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


def append_groups(connection: Connection, writes: Sequence[GroupWrite], created_at: float) -> None:
    """Store groups with everything in them; one that is there already, with equal content, is passed over."""
    new: dict[str, GroupWrite] = {}
    stored = _places(connection, groups.c.group_id, groups.c.leaf, (w.group.group_id for w in writes))
    for write in writes:
        group_id = write.group.group_id
        if group_id in stored:
            _must_be_equal(connection, stored[group_id], write)
        elif new.setdefault(group_id, write).leaves() != write.leaves():
            raise _conflict("two groups of one name have different content", f"group {group_id}")
    if not new:
        return
    known = _places(connection, runs.c.run_id, runs.c.leaf, (w.group.run_id for w in new.values()))
    for write in new.values():
        if write.group.run_id not in known:
            raise _missing("run", f"run {write.group.run_id}", "call add_run first")
    _insert(connection, list(new.values()), created_at)


def _places(connection: Connection, name: Column[str], leaf: Column[int], wanted: Iterable[str]) -> dict[str, int]:
    """Which of the wanted records there are, and the numbers of their leaves."""
    found: dict[str, int] = {}
    for part in chunks(dict.fromkeys(wanted), MAX_PARAMETERS):
        found.update((row[0], row[1]) for row in connection.execute(select(name, leaf).where(name.in_(part))))
    return found


def _insert(connection: Connection, writes: Sequence[GroupWrite], created_at: float) -> None:
    known = set(_places(connection, tasks.c.task_hash, tasks.c.leaf, (w.task.record for w in writes)))
    leaves: list[Leaf] = []
    rows: Rows = {table: [] for table in (tasks, groups, traces, nodes, verdicts, ready)}
    contents: dict[bytes, bytes] = {}
    first = read_frontier(connection).size
    for write in writes:
        if write.task.record not in known:
            known.add(write.task.record)
            rows[tasks].append(write.task_row(first + len(leaves)))
            leaves.append(write.task)
        write.add_rows(rows, first + len(leaves), created_at)
        leaves += write.leaves()
        contents.update(write.blobs)
    append_leaves(connection, leaves)
    insert_blobs(connection, contents)
    for table, new in rows.items():
        insert_rows(connection, table, new)


def _must_be_equal(connection: Connection, first: int, new: GroupWrite) -> None:
    leaves = new.leaves()
    query = select(log.c.hash).where(log.c.leaf.between(first, first + len(leaves) - 1)).order_by(log.c.leaf)
    stored = list(connection.execute(query).scalars())
    for leaf, known in zip(leaves, stored, strict=False):
        if leaf.hash != known:
            raise _conflict("the group is already stored with other content", f"{leaf.kind} {leaf.record}")
    if len(stored) < len(leaves):
        raise _conflict("the group is already stored with other content", f"group {new.group.group_id}")


def append_verdict(connection: Connection, trace_id: str, verdict: Verdict, since: list[int]) -> int:
    """Add a verdict to a trace unless it equals the latest one.

    ``since`` is empty at first and notes the number that is tried. A call that is repeated, because the answer to the
    first was lost, finds its verdict from that number on, whatever other writers added meanwhile.
    """
    history = connection.execute(
        select(verdicts.c.sequence, verdicts.c.leaf, verdicts.c.status)
        .where(verdicts.c.trace_id == trace_id)
        .order_by(verdicts.c.sequence.desc())
    ).all()
    if not history:
        raise _missing("trace", f"trace {trace_id}", "append its group first")
    content = verdict_to_dict(verdict)
    latest = history[0]
    for row in history:
        if row is not latest and (not since or row.sequence < since[0]):
            break
        if is_logged(connection, row.leaf, verdict_leaf(trace_id, row.sequence, content)):
            return int(row.sequence)
    sequence = int(latest.sequence) + 1
    since[:] = since or [sequence]
    row_of = {
        "leaf": append_leaves(connection, [verdict_leaf(trace_id, sequence, content)]),
        "trace_id": trace_id,
        "sequence": sequence,
        "record": canonical_json(content),
        **verdict_columns(verdict),
    }
    connection.execute(insert(verdicts), row_of)
    if VerdictStatus.PENDING.value in (latest.status, verdict.status.value):
        offer_if_complete(connection, trace_id)
    return sequence


def claim(
    connection: Connection, run_id: str, *, step: int, count: int, purpose: str, oldest_step: int | None
) -> list[str]:
    """Exactly ``count`` groups for a step, or none. What the step has already counts, so a second call is no other."""
    checked_int(step, "step")
    _run_must_exist(connection, run_id)
    own = claimed(connection, run_id, purpose, step)
    if len(own) >= count:
        return own
    more = next_ready(connection, run_id, purpose, oldest_step, count - len(own))
    if len(own) + len(more) < count:
        return []
    _consume(connection, run_id, more, step)
    return own + more


def consume(connection: Connection, run_id: str, group_ids: Sequence[str], step: int) -> None:
    """Note the use of groups, each once per run."""
    checked_int(step, "step")
    _run_must_exist(connection, run_id)
    wanted = list(dict.fromkeys(group_ids))
    used: dict[str, int] = {}
    for part in chunks(wanted, MAX_PARAMETERS):
        chosen = (consumptions.c.run_id == run_id) & consumptions.c.group_id.in_(part)
        rows = connection.execute(select(consumptions.c.group_id, consumptions.c.step).where(chosen))
        used.update((row.group_id, row.step) for row in rows)
    for group_id in wanted:
        if used.get(group_id, step) != step:
            raise _conflict(
                "a group was already consumed by another step",
                f"group {group_id}",
                got=step,
                expected=f"step {used[group_id]}",
            )
    new = [group_id for group_id in wanted if group_id not in used]
    stored = _places(connection, groups.c.group_id, groups.c.leaf, new)
    for group_id in new:
        if group_id not in stored:
            raise _missing("group", f"group {group_id}", "append the group before a step consumes it")
    _consume(connection, run_id, new, step)


def _consume(connection: Connection, run_id: str, group_ids: Sequence[str], step: int) -> None:
    if group_ids:
        first = append_leaves(connection, [consumption_leaf(run_id, name, step) for name in group_ids])
        rows = [(first + i, run_id, name, step) for i, name in enumerate(group_ids)]
        insert_rows(connection, consumptions, rows)
        withdraw(connection, run_id, group_ids)


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
