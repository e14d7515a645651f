"""Records as bytes: what is stored, and what the leaves of the Merkle log are hashes of.

Every leaf is the canonical JSON of an object with a ``kind``. A trace's leaf holds its identity and the SHA-256 of its
canonical bytes (:func:`askesis.trace.encode`). No leaf holds the time at which something was stored or took.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from askesis.errors import StoreCorrupt, TraceError
from askesis.store.merkle import leaf_hash
from askesis.store.records import RunRecord
from askesis.trace import Budgets, Failure, FailureOrigin, StateScore, Task, Verdict, VerdictStatus, canonical_json

__all__ = [
    "Leaf",
    "checksum",
    "consumption_leaf",
    "decoding",
    "from_json",
    "group_leaf",
    "printable",
    "run_leaf",
    "run_of",
    "run_to_dict",
    "task_leaf",
    "task_of",
    "trace_leaf",
    "verdict_leaf",
    "verdict_of",
    "verdict_to_dict",
]


class Leaf(NamedTuple):
    """One entry of the log: ``record`` names it within its kind, ``hash`` is the RFC 9162 leaf hash."""

    kind: str
    record: str
    hash: bytes


def _leaf(kind: str, record: str, **content: object) -> Leaf:
    return Leaf(kind, record, leaf_hash(canonical_json({"kind": kind, **content})))


def run_leaf(run: RunRecord) -> Leaf:
    """The leaf of a run."""
    return _leaf("run", run.run_id, run=run.run_id, content=run_to_dict(run))


def task_leaf(task_hash: str) -> Leaf:
    """The leaf of a task, from its content hash."""
    return _leaf("task", task_hash, task=task_hash)


def group_leaf(group_id: str, run_id: str, purpose: str, step: int, task_hash: str, num_members: int) -> Leaf:
    """The leaf of a group; it counts the members, so none can be dropped."""
    return _leaf(
        "group",
        group_id,
        group=group_id,
        run=run_id,
        purpose=purpose,
        step=step,
        task=task_hash,
        num_members=num_members,
    )


def trace_leaf(
    trace_id: str,
    run_id: str,
    group_id: str,
    member_index: int,
    seed: int,
    policy_version: int,
    task_hash: str,
    data: bytes,
) -> Leaf:
    """The leaf of a trace; ``data`` is its canonical bytes."""
    return _leaf(
        "trace",
        trace_id,
        run=run_id,
        group=group_id,
        member=member_index,
        seed=seed,
        policy_version=policy_version,
        task=task_hash,
        content=hashlib.sha256(data).hexdigest(),
    )


def verdict_leaf(trace_id: str, sequence: int, verdict: Mapping[str, Any]) -> Leaf:
    """The leaf of a verdict, from its record; ``sequence`` counts the verdicts of the trace from 0."""
    return _leaf("verdict", f"{trace_id}#{sequence}", trace=trace_id, sequence=sequence, verdict=verdict)


def consumption_leaf(run_id: str, group_id: str, step: int) -> Leaf:
    """The leaf of a consumption: training step ``step`` of the run used the group."""
    return _leaf("consumption", f"{run_id} <- {group_id}", run=run_id, group=group_id, step=step)


def run_to_dict(run: RunRecord) -> dict[str, Any]:
    """A run without its name, JSON-ready."""
    return {
        "recipe_hash": run.recipe_hash,
        "recipe": dict(run.recipe),
        "seed": run.seed,
        "versions": dict(run.versions),
    }


def run_of(run_id: str, record: Mapping[str, Any]) -> RunRecord:
    """The inverse of :func:`run_to_dict`."""
    return RunRecord(run_id=run_id, **record)


def task_of(record: Mapping[str, Any]) -> Task:
    """The inverse of ``Task.to_dict``."""
    return Task(**{**record, "tags": tuple(record["tags"]), "budgets": Budgets(**record["budgets"])})


def verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict, JSON-ready."""
    error = verdict.error
    return {
        "status": verdict.status.value,
        "evaluator": verdict.evaluator,
        "rewards": {name: list(pair) for name, pair in verdict.rewards.items()},
        "step_rewards": None if verdict.step_rewards is None else list(verdict.step_rewards),
        "completed": verdict.completed,
        "error": None
        if error is None
        else {
            "origin": error.origin.value,
            "kind": error.kind,
            "message": error.message,
            "traceback": error.traceback,
        },
        "due_at": verdict.due_at,
        "evidence": dict(verdict.evidence),
        # Only where there are some: verdicts without them keep the leaves that they always had.
        **({"states": [_state_to_list(s) for s in verdict.states]} if verdict.states else {}),
    }


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """The inverse of :func:`verdict_to_dict`."""
    error, steps = record["error"], record["step_rewards"]
    return Verdict(
        status=VerdictStatus(record["status"]),
        evaluator=record["evaluator"],
        rewards={name: (value, weight) for name, (value, weight) in record["rewards"].items()},
        step_rewards=None if steps is None else tuple(steps),
        completed=record["completed"],
        error=None if error is None else Failure(**{**error, "origin": FailureOrigin(error["origin"])}),
        due_at=record["due_at"],
        evidence=record["evidence"],
        states=tuple(map(_state_of, record.get("states", ()))),
    )


def _state_to_list(score: StateScore) -> list[Any]:
    return [score.state, score.after, score.value, [list(pair) for pair in score.answers], score.truth]


def _state_of(record: Sequence[Any]) -> StateScore:
    state, after, value, answers, truth = record
    pairs = tuple((int(call), float(score)) for call, score in answers)
    return StateScore(state=state, after=after, value=value, answers=pairs, truth=truth)


def from_json(data: bytes) -> Any:
    """The inverse of ``canonical_json``."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def checksum(*values: object) -> bytes:
    """8 bytes that notice damage to values which are in no leaf."""
    return hashlib.sha256(repr(values).encode("utf-8", "backslashreplace")).digest()[:8]


def printable(text: str) -> str:
    """``text`` with everything unprintable escaped, so that any database column can hold it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


@contextmanager
def decoding(record: str) -> Iterator[None]:
    """Rows come from a file that anyone may have changed: what fails while one is decoded is damage to ``record``.

    StoreCorrupt, which already names its record, passes as it is.
    """
    try:
        yield
    except (
        TraceError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise altered(record, f"it cannot be decoded: {type(error).__name__}: {error}") from error


def altered(record: str, problem: str) -> StoreCorrupt:
    """The error for a record that is not what was written."""
    return StoreCorrupt(
        "a record is not what was written",
        where=record,
        got=problem,
        next_step="run `askesis store verify`, then restore a backup",
    )
