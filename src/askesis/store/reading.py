"""Rows as groups. Every record that is read is checked against its leaf in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, select

from askesis.store.blobs import Blob, unpack
from askesis.store.canonical import (
    altered,
    checksum,
    decoding,
    from_json,
    group_leaf,
    task_of,
    trace_leaf,
    verdict_leaf,
    verdict_of,
)
from askesis.store.records import Group, Member
from askesis.store.rows import trace_columns, verdict_columns
from askesis.store.schema import blobs, groups, log, nodes, tasks, traces, verdicts
from askesis.trace import Trace, Verdict, encode
from askesis.trace.codec import from_parts

__all__ = ["check_verdict_row", "fetch_group", "read_group", "read_trace", "verdict_rows"]


def _array(row: Row[Any], kind: str) -> np.ndarray[Any, Any]:
    return unpack(Blob(hash=row.hash, size_bytes=row.size_bytes, encoding=row.encoding, data=row.data), kind)


_BLOB = (blobs.c.hash, blobs.c.size_bytes, blobs.c.encoding, blobs.c.data)


class _Parts(NamedTuple):
    """The rows of one group; nodes by the number of their trace's leaf."""

    traces: Sequence[Row[Any]]
    nodes: Mapping[int, list[Row[Any]]]


def fetch_group(connection: Connection, group_id: str) -> _Parts:
    """The rows of a group's traces and their nodes."""
    chosen = traces.c.group_id == group_id
    trace_rows = connection.execute(
        select(traces, log.c.hash.label("leaf_hash"), *_BLOB)
        .outerjoin(log, log.c.leaf == traces.c.leaf)
        .outerjoin(blobs, blobs.c.hash == traces.c.logprobs)
        .where(chosen)
        .order_by(traces.c.leaf)
    ).all()
    by_trace: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(
        select(nodes, *_BLOB)
        .join(traces, traces.c.leaf == nodes.c.trace_leaf)
        .outerjoin(blobs, blobs.c.hash == nodes.c.tokens)
        .where(chosen)
        .order_by(nodes.c.trace_leaf, nodes.c.node_index)
    ):
        by_trace.setdefault(row.trace_leaf, []).append(row)
    return _Parts(trace_rows, by_trace)


def verdict_rows(connection: Connection, condition: Any) -> Sequence[Row[Any]]:
    """Verdicts with the hash of their leaf, oldest first; ``condition`` is on the table of traces or of verdicts."""
    return connection.execute(
        select(verdicts, log.c.hash.label("leaf_hash"))
        .join(traces, traces.c.trace_id == verdicts.c.trace_id)
        .outerjoin(log, log.c.leaf == verdicts.c.leaf)
        .where(condition)
        .order_by(verdicts.c.trace_id, verdicts.c.sequence)
    ).all()


def check_verdict_row(row: Row[Any]) -> Verdict:
    """The verdict of a row. Raises StoreCorrupt if it is not what was logged."""
    record = f"verdict {row.trace_id}#{row.sequence}"
    with decoding(record):
        content = from_json(row.record)
        verdict = verdict_of(content)
        if verdict_leaf(row.trace_id, row.sequence, content).hash != row.leaf_hash:
            raise altered(record, "its content does not match its leaf in the log")
        _compare(record, row, verdict_columns(verdict))
    return verdict


def _compare(record: str, row: Row[Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        stored = row._mapping[name]
        if stored != value:
            raise altered(record, f"column {name} is {stored!r}, the record says {value!r}")


def read_trace(group: Row[Any], trace: Row[Any], node_rows: Sequence[Row[Any]]) -> Trace:
    """A trace from its rows. Raises StoreCorrupt if it is not what was logged."""
    record = f"trace {trace.trace_id}"
    with decoding(record):
        header = from_json(trace.header)
        header["nodes"] = [[n.parent, n.num_tokens, n.call_key, n.call_offset] for n in node_rows]
        tokens = [_array(n, "tokens") for n in node_rows]
        if [(i, len(t)) for i, t in enumerate(tokens)] != [(n.node_index, n.num_tokens) for n in node_rows]:
            raise altered(record, "a node is missing, or has another number of tokens than its array")
        value = from_parts(
            header, np.concatenate(tokens) if tokens else np.empty(0, np.uint32), _array(trace, "logprobs")
        )
        leaf = trace_leaf(
            trace.trace_id,
            group.run_id,
            trace.group_id,
            trace.member_index,
            trace.seed,
            trace.policy_version,
            group.task_hash,
            encode(value),
        )
        if leaf.hash != trace.leaf_hash or trace.trace_id != f"{trace.group_id}/{trace.member_index}":
            raise altered(record, "its content does not match its leaf in the log")
        _compare(record, trace, trace_columns(value))
        if trace.checksum != checksum(trace.trace_id, trace.duration_s):
            raise altered(record, "its duration does not match its checksum")
    return value


def _member(group: Row[Any], trace: Row[Any], node_rows: Sequence[Row[Any]], history: Sequence[Row[Any]]) -> Member:
    value = read_trace(group, trace, node_rows)
    if not history or [v.sequence for v in history] != list(range(len(history))):
        raise altered(f"trace {trace.trace_id}", "a verdict of it is missing")
    verdict = [check_verdict_row(row) for row in history][-1]
    return Member(
        member_index=trace.member_index,
        seed=trace.seed,
        trace=value,
        verdict=verdict,
        duration_s=trace.duration_s,
        policy_version=trace.policy_version,
    )


def read_group(connection: Connection, group_id: str) -> Group | None:
    """A group, checked row by row against the log; None if there is no such group. Raises StoreCorrupt."""
    with decoding(f"group {group_id}"):
        row = connection.execute(
            select(groups, tasks.c.record.label("task_record"), log.c.hash.label("leaf_hash"))
            .outerjoin(tasks, tasks.c.task_hash == groups.c.task_hash)
            .outerjoin(log, log.c.leaf == groups.c.leaf)
            .where(groups.c.group_id == group_id)
        ).first()
        if row is None:
            return None
        parts = fetch_group(connection, group_id)
        histories: dict[str, list[Row[Any]]] = {}
        for verdict in verdict_rows(connection, traces.c.group_id == group_id):
            histories.setdefault(verdict.trace_id, []).append(verdict)
        task = task_of(from_json(row.task_record))
        own = group_leaf(row.group_id, row.run_id, row.purpose, row.step, row.task_hash, len(parts.traces))
        if own.hash != row.leaf_hash or task.content_hash != row.task_hash:
            raise altered(f"group {group_id}", "its content does not match its leaf in the log")
    members = [_member(row, t, parts.nodes.get(t.leaf, ()), histories.get(t.trace_id, ())) for t in parts.traces]
    return Group(
        group_id=row.group_id,
        run_id=row.run_id,
        purpose=row.purpose,
        step=row.step,
        task=task,
        members=tuple(members),
    )
