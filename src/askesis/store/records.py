"""What goes into a store and comes out of it. All are frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from askesis.errors import StoreError
from askesis.trace import Task, Trace, Verdict

__all__ = [
    "Finding",
    "Group",
    "Head",
    "Member",
    "Report",
    "RunEntry",
    "RunRecord",
    "TraceSummary",
    "checked_int",
    "checked_name",
]

_NAME_LIMIT = 200


def checked_name(value: str, what: str) -> str:
    """``value`` if it can name a record: 1 to 200 printable characters. Raises StoreError."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _NAME_LIMIT:
        return value
    raise StoreError(
        f"a {what} cannot be used as a name",
        got=value,
        expected=f"1 to {_NAME_LIMIT} printable characters",
        next_step="choose another name; free text belongs into messages, payloads and evidence",
    )


def checked_int(value: int, what: str) -> int:
    """``value`` if it fits 64 bits. Raises StoreError."""
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise StoreError(f"a {what} does not fit into a column", got=value, expected="an integer of 64 bits")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run is; it never changes. ``recipe`` is JSON-ready; ``versions`` maps a package to its version."""

    run_id: str
    recipe_hash: str
    recipe: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A stored run. ``status`` is running, finished or failed; ``created_at`` is in seconds since the epoch."""

    record: RunRecord
    status: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """One session of a group. ``duration_s`` is wall-clock time and no part of the log."""

    member_index: int
    seed: int
    trace: Trace
    verdict: Verdict
    duration_s: float | None = None
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Sessions on the same task that are stored, and consumed, together.

    Args:
        group_id: chosen by the caller, unique in the store, for example ``RUN/train/000012/003``.
        purpose: ``train``, ``evaluation`` or another name.
        step: training step that asked for the group.
    """

    group_id: str
    run_id: str
    purpose: str
    step: int
    task: Task
    members: tuple[Member, ...]

    def trace_id(self, member: Member) -> str:
        """The name of the member's trace: ``group_id/member_index``."""
        return f"{self.group_id}/{member.member_index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The state of the log: number of leaves and root hash in hexadecimal."""

    size: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it was written. ``record`` names it, for example ``trace RUN/train/000012/003/7``."""

    record: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What :meth:`Store.verify` found. ``size`` and ``root`` are those that the log's rows give now."""

    ok: bool
    size: int
    root: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """One line of a listing: a trace with its latest verdict. Text is made printable; the records have it exact."""

    trace_id: str
    group_id: str
    purpose: str
    step: int
    member_index: int
    task_key: str
    environment: str
    policy_version: int
    stop: str
    failure: str | None
    """``origin/kind``, if the session failed."""
    num_calls: int
    num_tokens: int
    num_sampled: int
    status: str
    reward: float | None
    completed: bool | None
    duration_s: float | None
