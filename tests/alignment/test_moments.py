"""Streamed statistics against those of the whole."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.alignment import AlignmentError, Moments, moments_of
from askesis.alignment.moments import power_of


def test_hand_computed(four_images: Any) -> None:
    found = moments_of(four_images, covariance=True)
    np.testing.assert_allclose(found.mean, [0.7, 0.35, 0.35])
    assert found.count == 4 and found.trace == pytest.approx(0.265)
    assert np.trace(found.covariance) == pytest.approx(0.265)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(2, 40), min_size=1, max_size=6))
def test_any_cut_gives_the_same(seed: int, sizes: list[int]) -> None:
    rows = np.random.default_rng(seed).standard_normal((sum(sizes), 5)) + 1
    whole = moments_of(rows, covariance=True)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    merged = reduce(Moments.merge, (moments_of(part, covariance=True) for part in parts))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert merged.count == whole.count == len(rows)
    for found in (whole, merged):
        np.testing.assert_allclose(found.mean, unit.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(unit.T, bias=True), atol=1e-12)
        assert found.trace == pytest.approx(np.trace(np.cov(unit.T, bias=True)), abs=1e-12)


def test_sums_of_half_a_million_rows_need_float64() -> None:
    rows = np.random.default_rng(0).standard_normal((500_000, 4), dtype=np.float32) + np.float32(2.0)
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    exact = unit.mean(axis=0)
    streamed = moments_of(rows).mean
    narrow = np.add.accumulate(unit.astype(np.float32), axis=0, dtype=np.float32)[-1] / np.float32(len(rows))
    assert np.abs(streamed - exact).max() < 1e-12
    assert np.abs(narrow - exact).max() > 1e-9


def test_a_covariance_that_was_not_gathered_is_not_there(four_texts: Any) -> None:
    with pytest.raises(AlignmentError, match="covariance=True"):
        _ = moments_of(four_texts).covariance


def test_powers_of_a_matrix() -> None:
    root = np.random.default_rng(0).standard_normal((4, 4))
    matrix = root @ root.T
    half = power_of(matrix, 0.5)
    np.testing.assert_allclose(half @ half, matrix, atol=1e-10)
    np.testing.assert_allclose(power_of(matrix, -0.5) @ half, np.eye(4), atol=1e-8)
    flat = np.diag([1.0, 0.0])
    np.testing.assert_allclose(power_of(flat, -0.5, floor=1e-4), np.diag([1.0, 100.0]))
