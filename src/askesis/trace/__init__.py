"""The token tree, and the values that every floor shares."""

from askesis.trace.codec import SCHEMA_VERSION, decode, encode
from askesis.trace.tree import Branch, Call, Node, Trace, TraceBuilder
from askesis.trace.types import (
    Budgets,
    Failure,
    FailureOrigin,
    Fork,
    Message,
    StateScore,
    StopReason,
    Task,
    ToolCall,
    ToolSpec,
    Verdict,
    VerdictStatus,
    canonical_json,
)

__all__ = [
    "SCHEMA_VERSION",
    "Branch",
    "Budgets",
    "Call",
    "Failure",
    "FailureOrigin",
    "Fork",
    "Message",
    "Node",
    "StateScore",
    "StopReason",
    "Task",
    "ToolCall",
    "ToolSpec",
    "Trace",
    "TraceBuilder",
    "Verdict",
    "VerdictStatus",
    "canonical_json",
    "decode",
    "encode",
]
