"""What a finished run says: how often each held-out task was solved, and the metrics of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from askesis.evaluation import pass_at_k
from askesis.store import Store
from askesis.training.rundir import RunDir

__all__ = ["Count", "FinishedRun", "held_out_pass", "read_run", "training_mean"]

Series = Sequence[tuple[int, float | None]]


class Count(NamedTuple):
    """Judged answers to one held-out task, and how many of them are right."""

    judged: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """A run as its store has it. ``evaluations`` maps a step to the counts of its tasks, in their order; 0 is before
    the training.
    """

    setting: str
    arm: str
    seed: int
    path: Path
    wall_s: float
    num_trained: int
    """Tokens that the policy sampled for its training."""
    evaluations: Mapping[int, tuple[Count, ...]]
    series: Mapping[str, Series]

    @property
    def final(self) -> tuple[Count, ...]:
        """The counts after the training."""
        return self.evaluations[max(self.evaluations)]


def read_run(path: Path, *, setting: str, arm: str, seed: int) -> FinishedRun:
    """Read the run in ``path``. Raises StoreError or CheckpointError when it is damaged."""
    run = RunDir(path)
    run_id = run.identity()["run_id"]
    with Store.open(run.store_target, create=False, read_only=True) as store:
        summaries = store.trace_summaries(run_id, limit=1 << 31)
        series = store.metrics(run_id)
    counts: dict[int, dict[str, Count]] = {}
    for summary in summaries:
        if summary.purpose == "evaluation":
            tasks = counts.setdefault(summary.step, {})
            judged, right = tasks.get(summary.group_id, Count(0, 0))
            known = summary.completed is not None
            tasks[summary.group_id] = Count(judged + known, right + bool(summary.completed))
    return FinishedRun(
        setting=setting,
        arm=arm,
        seed=seed,
        path=path,
        wall_s=float(run.state()["wall_s"]),
        num_trained=sum(s.num_sampled for s in summaries if s.purpose == "train"),
        evaluations={step: tuple(tasks.values()) for step, tasks in counts.items()},
        series=series,
    )


def held_out_pass(k: int) -> Callable[[FinishedRun], list[float | None]]:
    """pass@k of each held-out task after the training; None where fewer than k answers were judged."""

    def read(run: FinishedRun) -> list[float | None]:
        return [pass_at_k(c.judged, c.right, k) if c.judged >= k else None for c in run.final]

    return read


def training_mean(name: str) -> Callable[[FinishedRun], list[float | None]]:
    """The mean of a metric over all training steps: high for those that learn early."""

    def read(run: FinishedRun) -> list[float | None]:
        known = [value for _, value in run.series[name] if value is not None]
        return [sum(known) / len(known)] if known else [None]

    return read
