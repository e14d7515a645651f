"""The one-pass application against the step by step one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.alignment import AlignmentError
from askesis.alignment.checks import BLOCK_ROWS
from askesis.alignment.stages import Stage, apply_fast, apply_stages


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 40))
def test_fast_is_the_reference(seed: int, num_stages: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    stages = [
        Stage(scale=float(rng.uniform(0.5, 2.0)), shift=rng.uniform(0, 0.4) * rng.standard_normal(size) / size**0.5)
        for _ in range(num_stages)
    ]
    rows = rng.standard_normal((17, size)) * rng.uniform(0.1, 5.0, size=(17, 1))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    out = np.empty((17, size), dtype=np.float32)
    apply_fast(stages, rows, out)
    np.testing.assert_allclose(out, apply_stages(stages, unit), atol=5e-6)


def test_by_hand() -> None:
    unit = np.array([[1.0, 0.0]])
    moved = apply_stages([Stage(scale=3.0, shift=np.array([0.0, 4.0]))], unit)
    np.testing.assert_allclose(moved, [[0.6, 0.8]])
    turned = apply_stages([Stage(scale=1.0, shift=np.zeros(2), matrix=np.array([[0.0, -1.0], [1.0, 0.0]]))], unit)
    np.testing.assert_allclose(turned, [[0.0, 1.0]], atol=1e-15)


def test_what_lands_on_the_origin_is_refused() -> None:
    stage = Stage(scale=1.0, shift=np.array([-1.0, 0.0]))
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(AlignmentError, match="origin") as caught:
        apply_stages([stage], rows, 10)
    assert "row 11" in str(caught.value)
    with pytest.raises(AlignmentError, match="origin"):
        apply_fast([stage], rows, np.empty((2, 2), dtype=np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_fast_refuses_rows_without_direction(value: float) -> None:
    rows = np.ones((3, 2), dtype=np.float32)
    rows[1] = value
    with pytest.raises(AlignmentError, match="row 1"):
        apply_fast([Stage(scale=1.0, shift=np.zeros(2))], rows, np.empty((3, 2), dtype=np.float32))


def test_noise_belongs_to_a_place_and_a_seed() -> None:
    stage = Stage(scale=1.0, shift=np.zeros(4), sigma=0.3)
    rows = np.tile([[1.0, 0.0, 0.0, 0.0]], (2 * BLOCK_ROWS + 7, 1))
    whole = apply_stages([stage], rows, seed=5)
    tail = apply_stages([stage], rows[BLOCK_ROWS:], BLOCK_ROWS, seed=5)
    np.testing.assert_array_equal(whole[BLOCK_ROWS:], tail)
    assert not np.allclose(whole, apply_stages([stage], rows, seed=6))
    assert len(np.unique(whole[:, 1])) == len(rows)
    quiet = apply_stages([Stage(scale=1.0, shift=np.zeros(4), sigma=0.0)], rows)
    np.testing.assert_array_equal(quiet, rows)
