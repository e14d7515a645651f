"""Which groups a step runs, and what to say of their sessions as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from askesis.errors import AskesisError
from askesis.rollout import GroupSpec
from askesis.store import Group
from askesis.streams import seed_of
from askesis.trace import Task

__all__ = ["group_specs", "is_constant", "refuse_total_failure", "rollout_metrics"]


def group_specs(
    run_id: str, purpose: str, step: int, tasks: Sequence[Task], size: int, *, seed: int, first_place: int = 0
) -> list[GroupSpec]:
    """One group per task, named and seeded by purpose, step and place."""
    return [
        GroupSpec(
            group_id=f"{run_id}/{purpose}/{step:06d}/{place:04d}",
            run_id=run_id,
            purpose=purpose,
            step=step,
            task=task,
            size=size,
            seed=seed_of(seed, purpose, step, place),
        )
        for place, task in enumerate(tasks, first_place)
    ]


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float | None]:
    """Means over the sessions of a step; failed ones count in ``failures`` and nowhere else."""
    members = [m for g in groups for m in g.members]
    judged = [m for m in members if m.verdict.reward is not None]
    finished = [m for m in members if not m.trace.stop.is_error]
    return {
        "reward_mean": _mean(judged, lambda m: m.verdict.reward),
        "accuracy": _mean([m for m in judged if m.verdict.completed is not None], lambda m: float(m.verdict.completed)),
        "response_tokens": _mean(finished, lambda m: sum(len(c.sampled) for c in m.trace.acts)),
        "truncated_share": _mean(
            finished, lambda m: float(m.trace.stop.is_truncated or any(c.finish == "length" for c in m.trace.acts))
        ),
        "failures": float(len(members) - len(judged)),
    }


def is_constant(group: Group) -> bool:
    """All its rewards are equal, or there is none: the answers cannot be told apart."""
    return len({m.verdict.reward for m in group.members if m.verdict.reward is not None}) <= 1


def _mean(items: Sequence[Any], value: Callable[[Any], Any]) -> float | None:
    return sum(value(item) for item in items) / len(items) if items else None


def refuse_total_failure(groups: Sequence[Group], purpose: str, step: int) -> None:
    """One bad session is a counted failure; when there is no good one, the run is broken: AskesisError says why."""
    members = [m for g in groups for m in g.members]
    failures = [m.verdict.error for m in members if m.verdict.reward is None]
    if not members or len(failures) < len(members):
        return
    known = [f for f in failures if f is not None]
    kinds = Counter((f.origin.value, f.kind) for f in known)
    raise AskesisError(
        "every session failed",
        where=f"{purpose}, step {step}",
        got=", ".join(f"{count} x {origin}/{kind}" for (origin, kind), count in kinds.most_common(3)),
        expected="at least one session with a verdict",
        next_step=known[0].message if known else None,
    )
