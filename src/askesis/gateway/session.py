"""The record of one session: who plays which task, under which limits, by which clock."""

from __future__ import annotations

from dataclasses import dataclass

from askesis.clock import Clock
from askesis.trace.types import Budgets, Task

__all__ = ["Session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One play of one task. An environment gets it at every call and never sees tokens."""

    id: str
    task: Task
    group_id: str
    """Sessions of one group play the same task; their rewards are compared with each other."""
    member_index: int
    """Position in the group, from 0."""
    seed: int
    """Root of the session's own random streams (:mod:`askesis.streams`)."""
    policy_version: int
    """Weights that the session starts with."""
    budgets: Budgets
    clock: Clock
    variant: int = 0
    """Which of the engine's sets of weights plays, when it has several."""
