"""Groups as rows: what one transaction writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from askesis.errors import StoreError
from askesis.store.blobs import array_bytes, blob_name, pack
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
from askesis.store.schema import blobs, groups, nodes, traces, verdicts
from askesis.trace import Trace, Verdict, canonical_json, encode
from askesis.trace.codec import header_of

__all__ = ["GroupWrite", "insert_blobs", "trace_columns", "verdict_columns"]

_MAX_PARAMETERS = 500
"""Values in one IN list; SQLite's oldest limit is 999."""


def trace_columns(trace: Trace) -> dict[str, Any]:
    """The derived columns of a trace."""
    failure = trace.failure
    return {
        "stop": trace.stop.value,
        "failure": None if failure is None else printable(f"{failure.origin.value}/{failure.kind}"),
        "num_calls": len(trace.calls),
        "num_tokens": trace.num_tokens,
        "num_sampled": trace.num_sampled,
    }


def verdict_columns(verdict: Verdict) -> dict[str, Any]:
    """The derived columns of a verdict."""
    return {
        "status": verdict.status.value,
        "evaluator": printable(verdict.evaluator),
        "reward": verdict.reward,
        "completed": None if verdict.completed is None else int(verdict.completed),
    }


class GroupWrite:
    """A group as leaves and rows, ready to be stored."""

    def __init__(self, group: Group) -> None:
        _check(group)
        self.group = group
        self.task_record = canonical_json(group.task.to_dict())
        self.task = task_leaf(group.task.content_hash)
        self.own = group_leaf(
            group.group_id, group.run_id, group.purpose, group.step, self.task.record, len(group.members)
        )
        self.members: list[tuple[Member, Leaf, Leaf, bytes]] = []
        self.blobs: dict[bytes, bytes] = {}
        for member in group.members:
            self._add(member)

    def _add(self, member: Member) -> None:
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
        self.members.append((member, trace, verdict_leaf(trace_id, 0, verdict), canonical_json(verdict)))

    def leaves(self) -> list[Leaf]:
        """The group's leaf, then trace and first verdict of each member."""
        return [self.own, *(leaf for _, trace, verdict, _ in self.members for leaf in (trace, verdict))]

    def insert(self, connection: Connection, first: int, created_at: float) -> None:
        """Write all rows; ``first`` is the number of the group's leaf."""
        group = self.group
        row = {
            "leaf": first,
            "group_id": group.group_id,
            "run_id": group.run_id,
            "purpose": group.purpose,
            "step": group.step,
            "task_hash": self.task.record,
            "num_members": len(self.members),
            "created_at": created_at,
            "checksum": checksum(group.group_id, created_at),
        }
        connection.execute(insert(groups), row)
        trace_rows: list[dict[str, Any]] = []
        node_rows: list[dict[str, Any]] = []
        first_verdicts: list[dict[str, Any]] = []
        for place, (member, leaf, _, record) in enumerate(self.members):
            number = first + 1 + 2 * place
            trace_rows.append(self._trace_row(number, member, leaf.record))
            node_rows.extend(self._node_rows(number, member.trace))
            own = {"leaf": number + 1, "trace_id": leaf.record, "sequence": 0, "record": record}
            first_verdicts.append({**own, **verdict_columns(member.verdict)})
        insert_blobs(connection, self.blobs)
        for table, rows in ((traces, trace_rows), (nodes, node_rows), (verdicts, first_verdicts)):
            if rows:
                connection.execute(insert(table), rows)

    def _blob(self, array: np.ndarray[Any, Any], kind: str) -> bytes:
        data = array_bytes(array, kind)
        name = blob_name(data)
        self.blobs[name] = data
        return name

    def _trace_row(self, number: int, member: Member, trace_id: str) -> dict[str, Any]:
        header = header_of(member.trace)
        del header["nodes"]  # they have a table of their own
        duration_s = None if member.duration_s is None else float(member.duration_s)
        return {
            "leaf": number,
            "trace_id": trace_id,
            "group_id": self.group.group_id,
            "member_index": member.member_index,
            "seed": member.seed,
            "policy_version": member.policy_version,
            "header": canonical_json(header),
            "logprobs": self._blob(_joined([c.logprobs for c in member.trace.calls]), "logprobs"),
            "duration_s": duration_s,
            "checksum": checksum(trace_id, duration_s),
            **trace_columns(member.trace),
        }

    def _node_rows(self, number: int, trace: Trace) -> Iterable[dict[str, Any]]:
        for index, node in enumerate(trace.nodes):
            yield {
                "trace_leaf": number,
                "node_index": index,
                "parent": node.parent,
                "call_key": node.call,
                "call_offset": node.offset,
                "num_tokens": len(node.tokens),
                "tokens": self._blob(node.tokens, "tokens"),
            }


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
    names = list(contents)
    for start in range(0, len(names), _MAX_PARAMETERS):
        part = names[start : start + _MAX_PARAMETERS]
        known = set(connection.execute(select(blobs.c.hash).where(blobs.c.hash.in_(part))).scalars())
        packed = pack({name: contents[name] for name in part if name not in known})
        rows = [{"hash": b.hash, "size_bytes": b.size_bytes, "encoding": b.encoding, "data": b.data} for b in packed]
        if rows:
            connection.execute(insert(blobs), rows)
