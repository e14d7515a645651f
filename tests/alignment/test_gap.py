"""Measures with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from askesis.alignment import AlignmentError, EmbeddingAligner, measure_gap
from askesis.alignment.gap import (
    centroid_gap,
    cosine_divergence,
    effective_dimensions,
    mixing,
    neighbour_overlap,
    overlap_of_rows,
    recall_at_1,
    spectrum,
    spectrum_exponent,
)


def test_gap_of_the_worked_example(four_images: Any, four_texts: Any) -> None:
    assert centroid_gap(four_images, four_texts) == pytest.approx(0.613279, abs=1e-6)


def test_a_power_law_is_found() -> None:
    values = np.arange(1, 41, dtype=float) ** -1.33
    assert spectrum_exponent(values) == pytest.approx(1.33)
    assert np.isnan(spectrum_exponent(np.array([1.0, 0.0])))


def test_spectrum_and_dimensions_by_hand() -> None:
    rows = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    np.testing.assert_allclose(spectrum(rows), [2.0, 0.5])
    assert effective_dimensions(np.diag([2.0, 0.5])) == pytest.approx(2.5**2 / 4.25)
    assert effective_dimensions(np.eye(7)) == pytest.approx(7)


def test_neighbours(pairs: Any) -> None:
    rows = pairs.texts[:200]
    assert neighbour_overlap(rows, rows) == 1.0 and recall_at_1(rows, rows) == 1.0
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0]
    assert neighbour_overlap(rows, rows @ turn) == 1.0
    random = np.random.default_rng(1).standard_normal(rows.shape)
    assert overlap_of_rows(rows, random).shape == (200,) and neighbour_overlap(rows, random) < 0.15
    line = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert neighbour_overlap(line, line[[2, 1, 0, 3]], k=1) == 0.0


def test_mixing_of_apart_and_of_the_same(pairs: Any) -> None:
    rows = pairs.images[:400]
    away = 5 * np.eye(32)[0]
    assert mixing(rows + away, rows - away) == 0.0
    assert mixing(pairs.images[:1000], pairs.images[1000:]) == pytest.approx(0.5, abs=0.03)


def test_divergence(pairs: Any) -> None:
    assert cosine_divergence(pairs.images, pairs.images) == 0.0
    point = np.tile([[1.0, 0.0]], (50, 1))
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert cosine_divergence(point, np.tile(opposite, (25, 1))) == pytest.approx(
        _jensen_shannon(25 / 49, 24 / 49), abs=0.005
    )
    far = cosine_divergence(pairs.images, pairs.texts)
    near = cosine_divergence(pairs.images, EmbeddingAligner().fit_transform(pairs.images, pairs.texts).astype(float))
    assert near < 0.1 * far


def _jensen_shannon(opposite: float, same: float) -> float:
    """Of all mass at cosine 1 against ``same`` there and ``opposite`` at -1."""
    first = np.log(2 / (1 + same))
    second = same * np.log(2 * same / (1 + same)) + opposite * np.log(2)
    return float(first + second) / 2


def test_the_report_has_every_measure(pairs: Any) -> None:
    before = measure_gap(pairs.images, pairs.texts)
    moved = EmbeddingAligner().fit_transform(pairs.images, pairs.texts)
    after = measure_gap(pairs.images, moved, original=pairs.texts, limit=500)
    assert before.overlap is None and after.overlap is not None and after.overlap > 0.7
    assert after.gap < 0.1 * before.gap and after.num_texts == 500 and before.num_images == 2000
    assert abs(after.trace_ratio - 1) < abs(before.trace_ratio - 1) and after.mixing_texts > before.mixing_texts
    assert set(after.as_dict()) == set(before.as_dict())


def test_what_cannot_be_measured_is_refused(pairs: Any) -> None:
    with pytest.raises(AlignmentError, match="before and after"):
        measure_gap(pairs.images, pairs.texts, original=pairs.texts[:-1])
    with pytest.raises(AlignmentError, match="too few rows"):
        measure_gap(pairs.images[:20], pairs.texts)
    with pytest.raises(AlignmentError, match="different sizes"):
        measure_gap(pairs.images[:, :5], pairs.texts)
