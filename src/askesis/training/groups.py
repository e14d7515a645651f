"""Which groups a step runs, and what to say of their sessions as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from askesis.errors import AskesisError
from askesis.rollout import GroupSpec
from askesis.store import Group
from askesis.streams import seed_of
from askesis.trace import Task, VerdictStatus

__all__ = ["group_specs", "is_constant", "refuse_failures", "rollout_metrics"]


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
    """Means over the sessions of a step; failed ones count in ``failures``, their share of all in ``failed_share``, and
    nowhere else.
    """
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
        "failed_share": _mean(members, lambda m: float(m.verdict.status is VerdictStatus.ERROR)),
    }


def is_constant(group: Group) -> bool:
    """All its rewards are equal, or there is none: the answers cannot be told apart."""
    return len({m.verdict.reward for m in group.members if m.verdict.reward is not None}) <= 1


def _mean(items: Sequence[Any], value: Callable[[Any], Any]) -> float | None:
    return sum(value(item) for item in items) / len(items) if items else None


def refuse_failures(groups: Sequence[Group], purpose: str, step: int, max_failed: float) -> None:
    """A bad session is a counted failure. When all are bad, or a larger share than ``max_failed`` (0 to 1), the run is
    broken, and what is left is not what the recipe asks for: AskesisError names the commonest cause.
    """
    members = [m for g in groups for m in g.members]
    failures = [m.verdict.error for m in members if m.verdict.status is VerdictStatus.ERROR]
    is_total = all(m.verdict.reward is None for m in members)
    if not members or (not is_total and len(failures) <= max_failed * len(members)):
        return
    known = [f for f in failures if f is not None]
    kinds = Counter((f.origin.value, f.kind) for f in known).most_common(3)
    example = next((f.message for f in known if (f.origin.value, f.kind) == kinds[0][0]), None)
    raise AskesisError(
        "every session failed" if is_total else f"{len(failures)} of {len(members)} sessions failed",
        where=f"{purpose}, step {step}",
        got=", ".join(f"{count} x {origin}/{kind}" for (origin, kind), count in kinds),
        expected="at least one session with a verdict"
        if is_total
        else f"at most rollout.max_failed={max_failed:g} of them",
        next_step=example if is_total else f"mend this, or raise rollout.max_failed, and resume: {example}",
    )
