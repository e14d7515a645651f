"""An asynchronous run on virtual time, in which everything happens in the same order whenever it is repeated."""

from __future__ import annotations

from dataclasses import dataclass, field

from askesis.clock import VirtualClock

__all__ = ["Simulation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What sampling and learning cost, in virtual seconds. Environments sleep on the same time.

    Everything is computed in one thread, between the waits; the schedule then follows from recipe and seed alone.
    """

    token_s: float
    """One token of all answers that are sampled side by side."""
    compute_s: float
    """One update of the learner, or one check of it."""
    clock: VirtualClock = field(default_factory=VirtualClock)
