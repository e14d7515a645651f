"""What a report shows. Plain frozen values: the report knows nothing of stores, models or environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from askesis.evaluation import Interval

__all__ = [
    "Estimate",
    "Evaluation",
    "FailureCount",
    "RecipeRow",
    "ReportData",
    "SampleGroup",
    "SampleTrace",
    "SelfCheck",
    "TokenView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value between 0 and 1 with its 95 % interval."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation on held-out tasks.

    Args:
        label: for example ``before``, ``step 50`` or ``after``. Evaluations come in the order in which they were made.
        n: graded answers. Answers that could not be graded are ``errors`` and not part of ``n``.
        successes: how many of the ``n`` solved their task.
        interval: 95 % interval of the accuracy; None when n is 0.
        temperature: sampling temperature; 0 is greedy.
        best_constant: accuracy of always giving the commonest expected answer.
        pass_at_k: k to the mean pass@k over tasks.
        format_share: share of answers in the asked-for format.
        think_share: share of answers that reason before they answer.
        errors: answers that no verdict exists for.
    """

    label: str
    n: int
    successes: int
    interval: Interval | None
    temperature: float | None = None
    best_constant: float | None = None
    pass_at_k: Mapping[int, Estimate] = field(default_factory=dict)
    format_share: float | None = None
    think_share: float | None = None
    errors: int = 0

    @property
    def accuracy(self) -> float | None:
        """``successes / n``; None when nothing was graded."""
        return self.successes / self.n if self.n else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRow:
    """One resolved recipe value, written as in TOML. ``default`` is None for a key that has none."""

    key: str
    value: str
    default: str | None = None
    origin: str = "default"
    """Where the value came from, for example ``default``, ``recipe.toml`` or ``command line``."""

    @property
    def differs(self) -> bool:
        """The value is not the default."""
        return self.value != self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheck:
    """One check that the run made on itself."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCount:
    """Failed sessions of one origin and kind."""

    origin: str
    kind: str
    count: int
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """One token as text. ``logprob`` (nats) is None unless the policy sampled the token."""

    text: str
    sampled: bool
    id: int | None = None
    logprob: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTrace:
    """One session to read. ``reward`` and ``completed`` are None where there is no verdict."""

    label: str
    """For example ``before``, ``after`` or ``answer 3``."""
    reward: float | None
    completed: bool | None
    stop: str
    tokens: Sequence[TokenView]
    advantage: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleGroup:
    """Several answers to one task, shown side by side. ``expected`` is the reference answer."""

    question: str
    members: Sequence[SampleTrace]
    expected: str | None = None
    title: str = ""
    """For example the task's key, or ``training group, step 120``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report shows about one run.

    Args:
        run_id: the run's name.
        status: for example ``finished``, ``running``, ``stopped`` or ``failed``.
        summary: one line on what was trained on what.
        started: seconds since the epoch; ``finished`` likewise.
        steps_done: optimiser steps made; ``steps_planned`` those asked for.
        wall_s: seconds of work, interruptions left out.
        peak_rss_mb: largest resident memory in megabytes.
        versions: package to version.
        command: the command line that reproduces the run.
        recipe: every resolved value.
        algorithm: stage to its name or its parameters, as ``Algorithm.describe()`` gives it; JSON-ready.
        evaluations: in the order in which they were made. The headline compares the first one with the last one of the
            same temperature.
        series: metric name to ``(step, value)``; a None or a value that is not finite is a gap.
        warnings: one line each.
    """

    run_id: str
    status: str
    summary: str = ""
    started: float | None = None
    finished: float | None = None
    steps_done: int | None = None
    steps_planned: int | None = None
    wall_s: float | None = None
    peak_rss_mb: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    recipe_hash: str = ""
    command: str = ""
    recipe: Sequence[RecipeRow] = ()
    algorithm: Mapping[str, object] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()
    series: Mapping[str, Sequence[tuple[int, float | None]]] = field(default_factory=dict)
    self_checks: Sequence[SelfCheck] = ()
    failures: Sequence[FailureCount] = ()
    groups: Sequence[SampleGroup] = ()
    warnings: Sequence[str] = ()
