"""pass@k against exact fractions; intervals against textbook values and their own promises."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.errors import AskesisError
from askesis.evaluation import (
    BestConstant,
    Interval,
    MetricError,
    best_constant,
    bootstrap_interval,
    mean_pass_at_k,
    pass_at_k,
    wilson_interval,
)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 300))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(counts())
def test_pass_at_k_is_the_exact_combinatorial_fraction(drawn: tuple[int, int, int]) -> None:
    n, c, k = drawn
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@given(counts())
def test_pass_at_k_grows_with_correct_answers_and_with_k(drawn: tuple[int, int, int]) -> None:
    n, c, k = drawn
    value = pass_at_k(n, c, k)
    assert 0.0 <= value <= 1.0
    if c < n:
        assert pass_at_k(n, c + 1, k) >= value
    if k < n:
        assert pass_at_k(n, c, k + 1) >= value - 1e-12


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 1, 2) == pytest.approx(0.5)  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 0, 5) == 0.0
    assert pass_at_k(5, 2, 4) == 1.0  # any four of five hold one of the two
    assert mean_pass_at_k([(4, 1), (4, 0), (4, 4)], 2) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(MetricError, match="pass@k cannot be computed") as caught:
        pass_at_k(n, c, k)
    assert f"num_samples={n}" in str(caught.value)
    assert isinstance(caught.value, AskesisError)


def test_mean_pass_at_k_of_no_tasks_is_an_error() -> None:
    with pytest.raises(MetricError, match="no tasks"):
        mean_pass_at_k([], 1)


def test_wilson_by_hand() -> None:
    low, high = wilson_interval(0, 10)  # z^2 / (n + z^2) with z = 1.959964
    assert (low, high) == (0.0, pytest.approx(3.841459 / 13.841459, rel=1e-6))
    low, high = wilson_interval(156, 500)  # centre and half width of the score interval, by hand
    assert low == pytest.approx(0.272953, abs=1e-6)
    assert high == pytest.approx(0.353914, abs=1e-6)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(drawn: tuple[int, int]) -> None:
    successes, n = drawn
    interval = wilson_interval(successes, n)
    mirrored = wilson_interval(n - successes, n)
    assert 0.0 <= interval.low <= successes / n <= interval.high <= 1.0
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    wider = wilson_interval(successes, n, confidence=0.99)
    assert wider.low <= interval.low and wider.high >= interval.high


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(MetricError, match="at least one trial"):
        wilson_interval(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_confidence_must_be_a_share(confidence: float) -> None:
    with pytest.raises(MetricError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(MetricError, match="confidence"):
        bootstrap_interval([0.0, 1.0], confidence=confidence)


def test_bootstrap_agrees_with_wilson_on_many_coin_flips() -> None:
    flips = [1.0] * 300 + [0.0] * 700
    boot, wilson = bootstrap_interval(flips), wilson_interval(300, 1000)
    assert boot.low == pytest.approx(wilson.low, abs=0.005)
    assert boot.high == pytest.approx(wilson.high, abs=0.005)


def test_bootstrap_is_seeded() -> None:
    values = np.linspace(0.0, 1.0, 53).tolist()
    state = np.random.get_state()[1].tolist()
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    assert np.random.get_state()[1].tolist() == state


def test_clusters_widen_the_interval() -> None:
    """Twenty tasks of ten identical answers are twenty observations, not two hundred."""
    values = [float(task % 2) for task in range(20) for _ in range(10)]
    groups = [f"task {task}" for task in range(20) for _ in range(10)]
    naive, clustered = bootstrap_interval(values), bootstrap_interval(values, groups=groups)
    few = bootstrap_interval([float(task % 2) for task in range(20)])
    assert clustered.high - clustered.low > 2.5 * (naive.high - naive.low)
    assert clustered == pytest.approx(few, abs=1e-12)


def test_clusters_of_unequal_size_weigh_by_their_size() -> None:
    interval = bootstrap_interval([1.0, 1.0, 1.0, 0.0], groups=["a", "a", "a", "b"])
    assert interval == (0.0, 1.0)  # resamples are aa, ab, bb: means 1, 3/4, 0
    middle = bootstrap_interval([1.0, 1.0, 1.0, 0.0], groups=["a", "a", "a", "b"], confidence=0.3)
    assert middle == pytest.approx((0.75, 0.75))


def test_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "groups"),
    [([], None), ([1.0], None), ([1.0, 2.0], ["a", "a"]), ([1.0, math.nan], None), ([1.0, 2.0], ["a"])],
)
def test_bootstrap_refuses_what_it_cannot_resample(values: list[float], groups: list[str] | None) -> None:
    with pytest.raises(MetricError, match="at least two clusters"):
        bootstrap_interval(values, groups=groups)


def test_best_constant() -> None:
    assert best_constant(["4", "7", "7", "9"]) == BestConstant("7", 0.5)
    assert best_constant(["b", "a", "a", "b"]) == BestConstant("a", 0.5)  # a tie does not depend on the order
    with pytest.raises(MetricError, match="no answers"):
        best_constant([])


def test_intervals_overlap() -> None:
    assert Interval(0.1, 0.3).overlaps(Interval(0.3, 0.5))
    assert Interval(0.3, 0.5).overlaps(Interval(0.1, 0.3))
    assert not Interval(0.1, 0.3).overlaps(Interval(0.31, 0.5))


def test_import_leaves_scipy_out() -> None:
    code = "import sys, askesis.evaluation; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
