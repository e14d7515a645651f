"""The nouns that every floor shares: messages, tasks, budgets, outcomes and verdicts.

All are frozen values. ``None`` means "not known"; zero means zero; an evaluator that failed gives no reward at all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from askesis.errors import TraceError

__all__ = [
    "Budgets",
    "Failure",
    "FailureOrigin",
    "Fork",
    "Message",
    "StateScore",
    "StopReason",
    "Task",
    "ToolCall",
    "ToolSpec",
    "Verdict",
    "VerdictStatus",
    "canonical_json",
]


def canonical_json(value: object) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN or infinity (TraceError)."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise TraceError(
            "a record cannot be written as JSON",
            got=value,
            expected="strings, finite numbers, booleans, None, lists and dicts with string keys",
            next_step=f"convert the value first ({error})",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call as the policy wrote it. ``arguments`` is JSON text, as in the OpenAI message format."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool that a policy may call; ``parameters`` is a JSON schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message. ``role`` is system, user, assistant or tool."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The OpenAI form, without the empty fields."""
        record: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            record["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        if self.tool_call_id is not None:
            record["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            record["name"] = self.name
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        calls = tuple(
            ToolCall(id=c["id"], name=c["function"]["name"], arguments=c["function"]["arguments"])
            for c in record.get("tool_calls", ())
        )
        return cls(
            role=record["role"],
            content=record["content"],
            tool_calls=calls,
            tool_call_id=record.get("tool_call_id"),
            name=record.get("name"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What one session may spend. Each limit has its own :class:`StopReason`. None means unlimited."""

    turns: int | None = None
    """Calls to the policy."""
    tokens: int | None = None
    """Tokens that the policy may sample, over all turns."""
    seconds: float | None = None
    """Wall-clock time of the session, measured on the session's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do. ``payload`` is what the environment needs to set it up; it is never shown to the policy as it
    is.
    """

    key: str
    """Names the task within its environment, for example ``chain_sum/train/17``."""
    environment: str
    payload: Mapping[str, Any]
    seed: int = 0
    split: str = "train"
    tags: tuple[str, ...] = ()
    budgets: Budgets = field(default_factory=Budgets)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready record."""
        return {**asdict(self), "tags": list(self.tags), "payload": dict(self.payload)}

    @property
    def content_hash(self) -> str:
        """SHA-256 of the canonical record, in hexadecimal."""
        return hashlib.sha256(canonical_json(self.to_dict())).hexdigest()


class StopReason(StrEnum):
    """Why a session ended. Each limit that can cut a session has its own member."""

    TERMINATED = "terminated"
    """The environment said that the episode is over."""
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    MAX_SECONDS = "max_seconds"
    MAX_TOOL_CALLS = "max_tool_calls"
    CONTEXT_OVERFLOW = "context_overflow"
    MALFORMED = "malformed"
    """The policy broke the protocol of its harness, for example by writing no memory where one was asked for."""
    ENVIRONMENT_LIMIT = "environment_limit"
    """The environment itself cut the episode (its own step limit)."""
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminated(self) -> bool:
        """The episode came to its own end, by the world's rules or by the policy's own fault; nothing follows, so
        nothing is bootstrapped.
        """
        return self in (StopReason.TERMINATED, StopReason.MALFORMED)

    @property
    def is_truncated(self) -> bool:
        """A limit cut the episode."""
        return not (self.is_terminated or self.is_error)

    @property
    def is_error(self) -> bool:
        """No result: the session says nothing about the policy."""
        return self in (StopReason.FAILED, StopReason.CANCELLED)


class FailureOrigin(StrEnum):
    """Whose fault a failed session is."""

    POLICY = "policy"
    TOOL = "tool"
    ENVIRONMENT = "environment"
    EVALUATOR = "evaluator"
    ENGINE = "engine"
    FRAMEWORK = "framework"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed session's cause, kept as data. ``kind`` is the exception's type name, or ``timeout``."""

    origin: FailureOrigin
    kind: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Marks a call that is no act of its session: an answer that was drawn from a state of it."""

    state: int
    """Number of the state, counted from 0."""
    mode: str = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateScore:
    """How well the task could be answered from a state of a session. State 0 is the task alone."""

    state: int
    after: int | None
    """Key of the call that led to it; None for state 0."""
    value: float
    """In 0..1: the mean score of the answers, or what else judged the state."""
    answers: tuple[tuple[int, float], ...] = ()
    """Key of the call that drew each answer, and its score."""
    truth: float | None = None
    """In 0..1: what the world knows of the state, for reports; None where it knows nothing."""


class VerdictStatus(StrEnum):
    """OK: rewards are present. ERROR: the evaluator failed. PENDING: due later. VOID: withdrawn."""

    OK = "ok"
    ERROR = "error"
    PENDING = "pending"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One append-only judgement of a trace.

    ``rewards`` maps a name to ``(value, weight)``; the reward of the trace is the weighted sum. Only a verdict with
    status OK carries rewards; every value must be finite (TraceError), so that no NaN ever reaches an optimiser.
    """

    status: VerdictStatus
    evaluator: str
    """Name and version, for example ``reasoning-gym/0.1.25``."""
    rewards: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    step_rewards: tuple[float, ...] | None = None
    completed: bool | None = None
    """Did the policy solve the task? This, not the shaped reward, is what accuracy counts."""
    error: Failure | None = None
    due_at: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[StateScore, ...] = ()
    """Of the session's states, in order; empty when they were not scored."""

    def __post_init__(self) -> None:
        if (self.status is VerdictStatus.OK) != bool(self.rewards):
            raise TraceError(
                "a verdict carries rewards exactly when its status is ok",
                where=f"verdict of {self.evaluator}",
                got=f"status={self.status.value}, rewards={dict(self.rewards)!r}",
                next_step="an evaluator that could not judge returns status=error and no reward; None is never 0",
            )
        numbers = [x for pair in self.rewards.values() for x in pair] + list(self.step_rewards or ())
        numbers += [x for s in self.states for x in (s.value, *(score for _, score in s.answers))]
        bad = [x for x in numbers if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x)]
        if bad:
            raise TraceError(
                "a reward is not a finite number",
                where=f"verdict of {self.evaluator}",
                got=bad[0],
                expected="int or float, neither NaN nor infinite",
                next_step="mend the evaluator, or let it return status=error",
            )
        if not math.isfinite(sum(value * weight for value, weight in self.rewards.values())):
            raise TraceError(
                "the rewards add up to more than a number can hold",
                where=f"verdict of {self.evaluator}",
                got=dict(self.rewards),
                expected="a finite weighted sum",
            )

    @property
    def reward(self) -> float | None:
        """The weighted sum of the rewards; None unless the status is OK."""
        if self.status is not VerdictStatus.OK:
            return None
        return float(sum(value * weight for value, weight in self.rewards.values()))
