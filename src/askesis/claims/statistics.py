"""Means over seeds and tasks with a bootstrap interval that resamples both.

Tasks are nested in seeds: each seed draws its own. A resample draws seeds with replacement, then for each drawn seed
tasks with replacement. Of three seeds one resample in 27 holds the worst one only, so their 95 % interval reaches at
least as far as the worst and the best of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from askesis.evaluation import MetricError
from askesis.streams import generator

__all__ = ["Estimate", "estimate", "paired"]

_NUM_RESAMPLES = 4000


class Estimate(NamedTuple):
    """A mean over seeds with its 95 % interval, and the mean of each seed."""

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]


def paired(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """The differences of two lists of values of the same tasks; a task that lacks one of them is left out.

    Raises MetricError when the lists are not of the same tasks.
    """
    if len(ours) != len(theirs):
        raise MetricError("two runs were measured on different tasks", got=f"{len(ours)} and {len(theirs)} values")
    return [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]


def estimate(values: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """The mean of the seeds' means.

    Args:
        values: for each seed one value per task, at least one.
        seed: names the stream of the resampling.

    Raises:
        MetricError: no seed, or one without a value.
    """
    if not values or not all(len(tasks) for tasks in values):
        raise MetricError(
            "a mean over seeds needs a value for each of them",
            got=f"{[len(tasks) for tasks in values]} values",
            next_step="look at the run whose sessions all failed",
        )
    rng = generator(seed, "claims", "bootstrap")
    drawn = rng.integers(0, len(values), size=(_NUM_RESAMPLES, len(values)))
    resampled = np.empty(drawn.shape)
    for number, tasks in enumerate(values):
        places = drawn == number
        size = len(tasks)
        # How often each value is drawn; thousands of tasks often have only a few values among them.
        known, counts = np.unique(np.asarray(tasks, dtype=np.float64), return_counts=True)
        times = rng.multinomial(size, counts / size, size=int(places.sum()))
        resampled[places] = times @ known / size
    low, high = np.quantile(resampled.mean(axis=1), (0.025, 0.975))
    means = tuple(float(np.mean(tasks)) for tasks in values)
    return Estimate(float(np.mean(means)), float(low), float(high), means)
