"""Groups as rows: what one transaction writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Table, select

from askesis.errors import StoreError
from askesis.store.blobs import array_bytes, blob_name, pack
from askesis.store.bulk import MAX_PARAMETERS, chunks, insert_rows
from askesis.store.canonical import (
    Leaf,
    checksum,
    group_leaf,
    printable,
    task_leaf,
    trace_leaf,
    verdict_leaf,
    verdict_to_dict,
)
from askesis.store.records import Group, Member, checked_int, checked_name
from askesis.store.schema import blobs, groups, nodes, ready, traces, verdicts
from askesis.trace import Trace, Verdict, VerdictStatus, canonical_json, encode
from askesis.trace.codec import header_of

__all__ = ["GroupWrite", "Rows", "insert_blobs", "trace_columns", "unsigned_zero", "verdict_columns"]

Rows = dict[Table, list[tuple[Any, ...]]]
"""New rows by table, each with a value for every column in the table's order."""


def unsigned_zero(value: float) -> float:
    """``value`` as a column keeps it: SQLite forgets the sign of a zero, and a checksum must not remember it."""
    return float(value) + 0.0


def trace_columns(trace: Trace) -> dict[str, Any]:
    """The derived columns of a trace, in the table's order."""
    failure = trace.failure
    return {
        "stop": trace.stop.value,
        "failure": None if failure is None else printable(f"{failure.origin.value}/{failure.kind}"),
        "num_calls": len(trace.calls),
        "num_tokens": trace.num_tokens,
        "num_sampled": trace.num_sampled,
    }


def verdict_columns(verdict: Verdict) -> dict[str, Any]:
    """The derived columns of a verdict, in the table's order."""
    return {
        "status": verdict.status.value,
        "evaluator": printable(verdict.evaluator),
        "reward": None if verdict.reward is None else unsigned_zero(verdict.reward),
        "completed": None if verdict.completed is None else int(verdict.completed),
    }


class _MemberRows(NamedTuple):
    """What is stored of a member, but for the numbers of its leaves, which only the log knows."""

    trace: Leaf
    verdict: Leaf
    trace_row: tuple[Any, ...]
    node_rows: list[tuple[Any, ...]]
    verdict_row: tuple[Any, ...]


class GroupWrite:
    """A group as leaves and rows. All that can be done before a transaction, and before other writers have to wait."""

    def __init__(self, group: Group) -> None:
        _check(group)
        self.group = group
        self.task_record = canonical_json(group.task.to_dict())
        self.task = task_leaf(group.task.content_hash)
        self.own = group_leaf(
            group.group_id, group.run_id, group.purpose, group.step, self.task.record, len(group.members)
        )
        self.is_complete = all(m.verdict.status is not VerdictStatus.PENDING for m in group.members)
        self.blobs: dict[bytes, bytes] = {}
        self.members = [self._member(member) for member in group.members]

    def leaves(self) -> list[Leaf]:
        """The group's leaf, then trace and first verdict of each member."""
        return [self.own, *(leaf for member in self.members for leaf in (member.trace, member.verdict))]

    def task_row(self, number: int) -> tuple[Any, ...]:
        """The task, if it is new; ``number`` is that of its leaf."""
        task = self.group.task
        return (number, self.task.record, printable(task.key), printable(task.environment), self.task_record)

    def add_rows(self, rows: Rows, first: int, created_at: float) -> None:
        """Add the rows of everything but the task; ``first`` is the number of the group's leaf."""
        group = self.group
        own = (group.group_id, group.run_id, group.purpose, group.step, self.task.record, len(self.members))
        rows[groups].append((first, *own, created_at, checksum(group.group_id, created_at)))
        for place, member in enumerate(self.members):
            number = first + 1 + 2 * place
            rows[traces].append((number, *member.trace_row))
            rows[nodes].extend((number, *row) for row in member.node_rows)
            rows[verdicts].append((number + 1, *member.verdict_row))
        if self.is_complete:
            rows[ready].append((group.run_id, group.purpose, group.step, first))

    def _member(self, member: Member) -> _MemberRows:
        group, trace_id = self.group, self.group.trace_id(member)
        verdict = verdict_to_dict(member.verdict)
        trace = trace_leaf(
            trace_id,
            group.run_id,
            group.group_id,
            member.member_index,
            member.seed,
            member.policy_version,
            self.task.record,
            encode(member.trace),
        )
        return _MemberRows(
            trace=trace,
            verdict=verdict_leaf(trace_id, 0, verdict),
            trace_row=self._trace_row(member, trace_id),
            node_rows=[
                (i, n.parent, n.call, n.offset, len(n.tokens), self._blob(n.tokens, "tokens"))
                for i, n in enumerate(member.trace.nodes)
            ],
            verdict_row=(trace_id, 0, canonical_json(verdict), *verdict_columns(member.verdict).values()),
        )

    def _blob(self, array: np.ndarray[Any, Any], kind: str) -> bytes:
        data = array_bytes(array, kind)
        name = blob_name(data)
        self.blobs[name] = data
        return name

    def _trace_row(self, member: Member, trace_id: str) -> tuple[Any, ...]:
        header = header_of(member.trace)
        del header["nodes"]  # they have a table of their own
        duration_s = None if member.duration_s is None else unsigned_zero(member.duration_s)
        return (
            trace_id,
            self.group.group_id,
            member.member_index,
            member.seed,
            member.policy_version,
            canonical_json(header),
            self._blob(_joined([c.logprobs for c in member.trace.calls]), "logprobs"),
            *trace_columns(member.trace).values(),
            duration_s,
            checksum(trace_id, duration_s),
        )


def _joined(arrays: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.float32)


def _check(group: Group) -> None:
    for value, what in ((group.group_id, "group_id"), (group.run_id, "run_id"), (group.purpose, "purpose")):
        checked_name(value, what)
    checked_int(group.step, "step")
    for member in group.members:
        checked_int(member.member_index, "member_index")
        checked_int(member.seed, "seed")
        checked_int(member.policy_version, "policy_version")
        if member.duration_s is not None and not math.isfinite(member.duration_s):
            raise StoreError("a duration is not a finite number", where=group.trace_id(member), got=member.duration_s)
    if len({m.member_index for m in group.members}) != len(group.members):
        raise StoreError(
            "two members of a group have the same index",
            where=f"group {group.group_id}",
            got=[m.member_index for m in group.members],
            next_step="number the members anew",
        )


def insert_blobs(connection: Connection, contents: Mapping[bytes, bytes]) -> None:
    """Store the blobs that are not there yet. ``contents`` maps a name to its canonical bytes."""
    for part in chunks(contents, MAX_PARAMETERS):
        known = set(connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(part))).scalars())
        packed = pack({name: contents[name] for name in part if name not in known})
        insert_rows(connection, blobs, [(b.hash, b.size_bytes, b.encoding, b.data) for b in packed])
