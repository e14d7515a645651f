"""Complete groups, and the training steps that claim them.

A group is complete when no trace of it waits for a verdict (its latest one is not *pending*). The table ``ready`` holds
the complete groups that no step of their own run has consumed. It says nothing that the records do not say, so it is no
part of the log; :func:`problems` compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Row, Select, Table, delete, func, insert, select

from askesis.store.bulk import MAX_PARAMETERS, chunks
from askesis.store.schema import consumptions, groups, ready, traces, verdicts
from askesis.trace import VerdictStatus

__all__ = ["claimed", "next_ready", "num_ready", "offer_if_complete", "problems", "waiting", "withdraw"]


def next_ready(connection: Connection, run_id: str, purpose: str, oldest_step: int | None, count: int) -> list[str]:
    """The first ``count`` groups that wait, the oldest step first, in stored order within it."""
    query = (
        select(groups.c.group_id)
        .join(ready, ready.c.leaf == groups.c.leaf)
        .where((ready.c.run_id == run_id) & (ready.c.purpose == purpose))
        .order_by(ready.c.step, ready.c.leaf)
        .limit(count)
    )
    if oldest_step is not None:
        query = query.where(ready.c.step >= oldest_step)
    return list(connection.scalars(query))


def claimed(connection: Connection, run_id: str, purpose: str, step: int) -> list[str]:
    """The groups that a step has consumed, in the order of use."""
    query = (
        select(consumptions.c.group_id)
        .join(groups, groups.c.group_id == consumptions.c.group_id)
        .where((consumptions.c.run_id == run_id) & (consumptions.c.step == step) & (groups.c.purpose == purpose))
        .order_by(consumptions.c.leaf)
    )
    return list(connection.scalars(query))


def waiting(connection: Connection, run_id: str, purpose: str) -> list[tuple[str, int]]:
    """All groups that wait and the step that asked for each, in the order of :func:`next_ready`."""
    query = (
        select(groups.c.group_id, ready.c.step)
        .join(ready, ready.c.leaf == groups.c.leaf)
        .where((ready.c.run_id == run_id) & (ready.c.purpose == purpose))
        .order_by(ready.c.step, ready.c.leaf)
    )
    return [(row.group_id, row.step) for row in connection.execute(query)]


def num_ready(connection: Connection, run_id: str, purpose: str, oldest_step: int | None) -> int:
    """How many groups wait."""
    query = select(func.count()).select_from(ready).where((ready.c.run_id == run_id) & (ready.c.purpose == purpose))
    if oldest_step is not None:
        query = query.where(ready.c.step >= oldest_step)
    return int(connection.execute(query).scalar_one())


def withdraw(connection: Connection, run_id: str, group_ids: Sequence[str]) -> None:
    """Groups that a step of the run consumes wait no longer; those of other runs go on waiting for their own."""
    for part in chunks(group_ids, MAX_PARAMETERS // 2):
        # by name alone: with the run beside it, SQLite looks through all groups of the run
        rows = connection.execute(select(*_key(groups)).where(groups.c.group_id.in_(part))).all()
        _delete(connection, [row for row in rows if row.run_id == run_id])


def offer_if_complete(connection: Connection, trace_id: str) -> None:
    """After a verdict on a trace: let its group wait if it is complete and not consumed, and not otherwise."""
    group_id = select(traces.c.group_id).where(traces.c.trace_id == trace_id).scalar_subquery()
    row = connection.execute(select(*_key(groups)).where(groups.c.group_id == group_id)).one()
    _delete(connection, [row])
    if connection.execute(_complete().where(groups.c.leaf == row.leaf)).first() is not None:
        connection.execute(insert(ready), row._asdict())


def _key(table: Table) -> list[Column[Any]]:
    return [table.c[column.name] for column in ready.c]


def _delete(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Rows of one run. By the whole key, which every database finds at once."""
    for purpose in {row.purpose for row in rows}:
        own = [row for row in rows if row.purpose == purpose]
        chosen = (ready.c.run_id == own[0].run_id) & (ready.c.purpose == purpose)
        chosen &= ready.c.step.in_({row.step for row in own}) & ready.c.leaf.in_([row.leaf for row in own])
        connection.execute(delete(ready).where(chosen))


def _complete() -> Select[Any]:
    """Leaves of the groups that ought to wait."""
    later = verdicts.alias("later")
    latest = select(func.max(later.c.sequence)).where(later.c.trace_id == verdicts.c.trace_id).scalar_subquery()
    waits = (
        select(verdicts.c.leaf)
        .join(traces, traces.c.trace_id == verdicts.c.trace_id)
        .where(
            (traces.c.group_id == groups.c.group_id)
            & (verdicts.c.status == VerdictStatus.PENDING.value)
            & (verdicts.c.sequence == latest)
        )
    )
    used = select(consumptions.c.leaf).where(
        (consumptions.c.run_id == groups.c.run_id) & (consumptions.c.group_id == groups.c.group_id)
    )
    return select(groups.c.leaf, groups.c.group_id).where(~waits.exists() & ~used.exists())


def problems(connection: Connection) -> Iterator[tuple[int, str, str]]:
    """Where the table ``ready`` disagrees with the records: leaf, name of the group, problem."""
    own = (groups.c.run_id, groups.c.purpose, groups.c.step)
    waiting = select(ready, groups.c.group_id, *(c.label(f"own_{c.name}") for c in own))
    places = set()
    for row in connection.execute(waiting.outerjoin(groups, groups.c.leaf == ready.c.leaf)):
        places.add(row.leaf)
        if (row.run_id, row.purpose, row.step) != (row.own_run_id, row.own_purpose, row.own_step):
            yield row.leaf, str(row.group_id), "it waits under another run, purpose or step than its own"
    for row in connection.execute(_complete()):
        if row.leaf not in places:
            yield row.leaf, row.group_id, "it is complete and not consumed, but does not wait to be"
        places.discard(row.leaf)
    for row in connection.execute(select(groups.c.leaf, groups.c.group_id).order_by(groups.c.leaf)):
        if row.leaf in places:
            yield row.leaf, row.group_id, "it waits to be consumed, but was, or has no verdict yet"
