"""Traces for other programs: JSON lines and Parquet, one row per branch.

A row has the dialogue as OpenAI messages, the reward, and the exact ids that were sampled. A trace with several
branches gives several rows; ``owned`` marks the sampled tokens of a row that no earlier row of the trace has, so that
each counts once. A row that ends in an answer from a state of its session has ``mode`` and ``state``, and the answer's
score as its reward. A session that failed before its first call has no branch, hence no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from askesis.errors import MissingExtra
from askesis.store.canonical import printable
from askesis.store.records import Group, Member
from askesis.store.store import Store
from askesis.trace import Branch, Trace

__all__ = ["export_jsonl", "export_parquet", "messages_of"]


def messages_of(trace: Trace, leaf: int) -> list[dict[str, Any]]:
    """The dialogue along the branch that ends at node ``leaf``: what each call on it added, and its reply.

    A call that the branch leaves half-way has no reply in it: what came instead is among the next call's messages.
    """
    path = trace.path(leaf)
    keys = dict.fromkeys(trace.nodes[i].call for i in path)
    messages = []
    for call in trace.calls:
        if call.key not in keys:
            continue
        messages += [m.to_dict() for m in call.messages]
        if call.reply is not None and trace.end_of(call.key) in path:
            messages.append(call.reply.to_dict())
    return messages


def export_jsonl(store: Store, run_id: str, out: Path, *, purpose: str | None = None) -> int:
    """Write the branches of a run as JSON lines (ASCII) and return their number. ``out`` appears when it is whole."""
    out = Path(out)
    unfinished = out.with_name(out.name + ".part")
    number = 0
    with unfinished.open("w", encoding="ascii", newline="\n") as file:
        for row in _rows(store, run_id, purpose):
            file.write(json.dumps(row, allow_nan=False) + "\n")
            number += 1
    unfinished.replace(out)
    return number


def export_parquet(store: Store, run_id: str, out: Path, *, purpose: str | None = None) -> int:
    """Write the branches of a run as Parquet and return the number of rows. ``out`` appears when it is whole.

    ``messages``, ``rewards`` and ``failure`` are JSON text, since their shape differs from row to row.

    Raises:
        MissingExtra: the package pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "a Parquet export") from error
    out = Path(out)
    unfinished = out.with_name(out.name + ".part")
    schema = arrow.schema([(name, _arrow_type(arrow, kind)) for name, kind in _COLUMNS.items()])
    number = 0
    with parquet.ParquetWriter(unfinished, schema) as writer:
        for group in store.groups(run_id, purpose=purpose):
            rows = [_flat(row) for row in _group_rows(group)]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            number += len(rows)
    unfinished.replace(out)
    return number


_COLUMNS = {
    "run_id": "string",
    "group_id": "string",
    "trace_id": "string",
    "member_index": "int64",
    "branch": "int64",
    "purpose": "string",
    "step": "int64",
    "environment": "string",
    "task": "string",
    "task_hash": "string",
    "seed": "int64",
    "policy_version": "int64",
    "stop": "string",
    "failure": "string",
    "status": "string",
    "evaluator": "string",
    "reward": "float64",
    "rewards": "string",
    "completed": "bool_",
    "mode": "string",
    "state": "int64",
    "messages": "string",
    "token_ids": "uint32[]",
    "sampled": "bool_[]",
    "owned": "bool_[]",
    "logprobs": "float32[]",
}


def _arrow_type(arrow: Any, kind: str) -> Any:
    item = getattr(arrow, kind.removesuffix("[]"))()
    return arrow.list_(item) if kind.endswith("[]") else item


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {k: printable(v) if isinstance(v, str) else v for k, v in row.items()}
    for name in ("messages", "rewards", "failure"):
        flat[name] = None if row[name] is None else json.dumps(row[name])
    return flat


def _rows(store: Store, run_id: str, purpose: str | None) -> Iterator[dict[str, Any]]:
    for group in store.groups(run_id, purpose=purpose):
        yield from _group_rows(group)


def _group_rows(group: Group) -> Iterator[dict[str, Any]]:
    for member in group.members:
        identity = _identity(group, member)
        for number, branch in enumerate(member.trace.branches()):
            yield {
                **identity,
                **_fork(member, branch),
                "branch": number,
                "messages": messages_of(member.trace, branch.leaf),
                "token_ids": branch.tokens.tolist(),
                "sampled": branch.sampled.tolist(),
                "owned": branch.owned.tolist(),
                "logprobs": branch.logprobs.tolist(),
            }


def _fork(member: Member, branch: Branch) -> dict[str, Any]:
    """What a branch that ends in a fork is, with the score of its own answer in the place of the session's reward."""
    call = next(c for c in member.trace.calls if c.key == member.trace.nodes[branch.leaf].call)
    if call.fork is None:
        return {"mode": None, "state": None}
    scores = {key: score for state in member.verdict.states for key, score in state.answers}
    return {
        "mode": call.fork.mode,
        "state": call.fork.state,
        "reward": scores.get(call.key),
        "rewards": {},
        "completed": None,
    }


def _identity(group: Group, member: Member) -> dict[str, Any]:
    verdict, failure = member.verdict, member.trace.failure
    return {
        "run_id": group.run_id,
        "group_id": group.group_id,
        "trace_id": group.trace_id(member),
        "member_index": member.member_index,
        "purpose": group.purpose,
        "step": group.step,
        "environment": group.task.environment,
        "task": group.task.key,
        "task_hash": group.task.content_hash,
        "seed": member.seed,
        "policy_version": member.policy_version,
        "stop": member.trace.stop.value,
        "failure": None
        if failure is None
        else {"origin": failure.origin.value, "kind": failure.kind, "message": failure.message},
        "status": verdict.status.value,
        "evaluator": verdict.evaluator,
        "reward": verdict.reward,
        "rewards": {name: {"value": value, "weight": weight} for name, (value, weight) in verdict.rewards.items()},
        "completed": verdict.completed,
    }
