"""Accuracy, pass@k and their uncertainty.

Proportions get Wilson intervals and means a percentile bootstrap, both from SciPy; a normal-theory bar is too narrow
below a few hundred items (Bowyer et al. 2025, arXiv 2503.01747). SciPy takes a second to load: functions import it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from askesis.errors import AskesisError
from askesis.streams import generator

__all__ = [
    "BestConstant",
    "Interval",
    "MetricError",
    "best_constant",
    "bootstrap_interval",
    "mean_pass_at_k",
    "pass_at_k",
    "wilson_interval",
]


class MetricError(AskesisError, ValueError):
    """Numbers of which a metric cannot be computed."""


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Do the two intervals share a point?"""
        return self.low <= other.high and other.low <= self.high


class BestConstant(NamedTuple):
    """The answer that is right most often when it is always given, and the share of tasks on which it is right."""

    answer: str
    share: float


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that at least one of ``k`` answers, drawn without replacement from those sampled, is correct.

    ``1 - C(n - c, k) / C(n, k)``, computed as a product so that no large number appears (Chen et al. 2021, arXiv
    2107.03374, equation 1). Unbiased for the true pass@k.

    Args:
        num_samples: answers sampled for the task, n.
        num_correct: how many of them are correct, c; 0 <= c <= n.
        k: 1 <= k <= n.

    Raises:
        MetricError: the counts are impossible, or k > n: no unbiased estimate exists then.
    """
    if not 0 <= num_correct <= num_samples or not 1 <= k <= num_samples:
        raise MetricError(
            "pass@k cannot be computed from these counts",
            got=f"num_samples={num_samples}, num_correct={num_correct}, k={k}",
            expected="0 <= num_correct <= num_samples and 1 <= k <= num_samples",
            next_step="sample at least k answers for every task",
        )
    if num_samples - num_correct < k:
        return 1.0
    wrong = np.arange(num_samples - num_correct + 1, num_samples + 1, dtype=np.float64)
    return float(1.0 - np.prod(1.0 - k / wrong))


def mean_pass_at_k(counts: Iterable[tuple[int, int]], k: int) -> float:
    """The mean of :func:`pass_at_k` over tasks, each given as ``(num_samples, num_correct)``; at least one task."""
    values = [pass_at_k(num_samples, num_correct, k) for num_samples, num_correct in counts]
    if not values:
        raise MetricError("pass@k of no tasks is undefined", next_step="evaluate at least one task")
    return float(np.mean(values))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of the proportion ``successes / n``, for independent trials. MetricError for n = 0."""
    if not 0 <= successes <= n or n == 0:
        raise MetricError(
            "a proportion needs at least one trial, and no more successes than trials",
            got=f"{successes} of {n}",
            next_step="evaluate at least one task; answers that could not be graded are errors, not trials",
        )
    _check_confidence(confidence)
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


def bootstrap_interval(
    values: Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A percentile bootstrap interval of the mean of ``values``.

    When all values are alike it has no width, which says nothing about unseen tasks; prefer Wilson for proportions.

    Args:
        values: one number per item, for example the pass@k of each task; finite.
        groups: the cluster of each item. Whole clusters are drawn then, as answers to related questions go wrong
            together (Miller 2024, arXiv 2411.00640). None: every item is its own cluster.
        confidence: between 0 and 1.
        num_resamples: bootstrap samples.
        seed: names the stream of randomness; the same seed gives the same interval.

    Raises:
        MetricError: fewer than two clusters, a value that is not finite, or not one group for each value.
    """
    _check_confidence(confidence)
    sums, sizes = _cluster(values, groups)
    from scipy.stats import bootstrap

    result = bootstrap(
        (sums, sizes),
        lambda s, m, axis: np.sum(s, axis=axis) / np.sum(m, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=num_resamples,
        batch=max(1, 1_000_000 // len(sums)),
        rng=generator(seed, "bootstrap"),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def _cluster(
    values: Sequence[float], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each cluster, in order of first appearance."""
    array = np.asarray(values, dtype=np.float64)
    names = range(len(array)) if groups is None else groups
    place: dict[Hashable, int] = {}
    index = [place.setdefault(name, len(place)) for name in names]
    if array.ndim != 1 or len(index) != len(array) or len(place) < 2 or not np.all(np.isfinite(array)):
        raise MetricError(
            "a bootstrap needs finite numbers in at least two clusters",
            got=f"values of shape {array.shape}, {len(index)} group names, {len(place)} clusters",
            next_step="evaluate more tasks; answers without a grade have no value",
        )
    sums, sizes = np.zeros(len(place)), np.zeros(len(place))
    np.add.at(sums, index, array)
    np.add.at(sizes, index, 1.0)
    return sums, sizes


def best_constant(answers: Iterable[str]) -> BestConstant:
    """What always giving the commonest answer would score: the accuracy that needs no thought.

    Among equally common answers the first in string order is taken. MetricError without answers.
    """
    counts = Counter(answers)
    if not counts:
        raise MetricError("no answers to compare with", next_step="give the expected answers of the held-out tasks")
    answer, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return BestConstant(answer, count / counts.total())


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise MetricError("a confidence level lies strictly between 0 and 1", got=confidence)
