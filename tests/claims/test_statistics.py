"""Means and intervals that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.claims.statistics import estimate, paired
from askesis.evaluation import MetricError


def test_every_seed_weighs_the_same_however_many_tasks_it_has() -> None:
    found = estimate([[1.0, 1.0, 1.0, 1.0], [0.0]])
    assert found.mean == 0.5 and found.per_seed == (1.0, 0.0)


def test_equal_values_have_no_width() -> None:
    assert estimate([[0.25, 0.25], [0.25]])[:3] == (0.25, 0.25, 0.25)


def test_three_seeds_reach_from_the_worst_to_the_best() -> None:
    # Without spread within a seed a resample is a mean of three draws: the worst three times in 1 of 27 of them.
    found = estimate([[0.1] * 5, [0.2] * 5, [0.6] * 5])
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.6)) and found.mean == pytest.approx(0.3)


def test_tasks_are_resampled_too() -> None:
    # One seed: the interval is that of a mean of n coin flips, 0.5 +- 1.96 * 0.5 / sqrt(n).
    found = estimate([[0.0, 1.0] * 200])
    assert (found.low, found.high) == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))


def test_an_interval_over_many_seeds_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(0.0, 1.0, size=(60, 1)) + rng.normal(0.0, 1.0, size=(60, 20))).tolist()
    means = np.mean(values, axis=1)
    # Tasks within a seed are resampled as well, so their variance counts once more.
    expected = 1.96 * np.sqrt((means.var() + np.mean(np.var(values, axis=1)) / 20) / 60)
    found = estimate(values)
    assert found.high - found.mean == pytest.approx(expected, rel=0.1)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_interval_lies_within_the_values(values: list[list[float]]) -> None:
    found = estimate(values)
    everything = [v for tasks in values for v in tasks]
    assert min(everything) - 1e-9 <= found.low <= found.high <= max(everything) + 1e-9
    assert estimate(values) == found


def test_pairs() -> None:
    assert paired([0.5, None, 1.0], [0.25, 0.0, None]) == [0.25]
    with pytest.raises(MetricError, match="different tasks"):
        paired([0.5], [0.5, 0.5])


@pytest.mark.parametrize("values", [[], [[]], [[0.5], []]])
def test_a_seed_without_a_value_is_refused(values: list[list[float]]) -> None:
    with pytest.raises(MetricError, match="each of them"):
        estimate(values)
