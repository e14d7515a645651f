"""The worked example of the specification, the identities of the fit, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from askesis.alignment import METHODS, AlignmentError, EmbeddingAligner
from askesis.alignment.gap import centroid_gap


def test_worked_example_of_three_dimensions(four_images: Any, four_texts: Any) -> None:
    aligner = EmbeddingAligner().fit(four_images, four_texts)
    found = aligner.statistics_
    np.testing.assert_allclose(found["mu_x"], [0.7, 0.35, 0.35], atol=1e-12)
    np.testing.assert_allclose(found["mu_y"], [0.25, 0.6, 0.683333], atol=1e-6)
    assert (found["t_x"].item(), found["t_y"].item()) == (pytest.approx(0.265), pytest.approx(0.110556, abs=1e-6))
    assert found["scale"].item() == pytest.approx(1.548220, abs=1e-6)
    np.testing.assert_allclose(found["centroid"], [0.663259, 0.441766, 0.399310], atol=1e-6)
    expected = [
        [0.483386, 0.835920, 0.259954],
        [0.509969, 0.428737, 0.745732],
        [0.885519, 0.369820, 0.281229],
        [0.974916, -0.132662, 0.178714],
    ]
    np.testing.assert_allclose(aligner.transform(four_texts), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("method", "gap"),
    [("none", 0.613279), ("mean_shift", 0.106134), ("anchor_trace", 0.110465), ("realign", 0.033135)],
)
def test_worked_gaps(method: str, gap: float, four_images: Any, four_texts: Any) -> None:
    moved = EmbeddingAligner(method).fit_transform(four_images, four_texts)
    assert centroid_gap(four_images, moved.astype(np.float64)) == pytest.approx(gap, abs=2e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_unit_vectors_and_survives_its_file(method: str, pairs: Any, tmp_path: Path) -> None:
    aligner = EmbeddingAligner(method, encoder="synthetic", seed=3).fit(pairs.images[:900], pairs.texts[900:])
    moved = aligner.transform(pairs.texts)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1.0, atol=1e-5)
    aligner.save(tmp_path / "new" / "t.safetensors")
    again = EmbeddingAligner.load(tmp_path / "new" / "t.safetensors")
    assert (again.method, again.encoder, again.options) == (method, "synthetic", aligner.options)
    np.testing.assert_array_equal(again.transform(pairs.texts), moved)
    assert set(again.statistics_) == set(aligner.statistics_) and again.statistics_["n_x"].item() == 900


def test_rows_need_not_correspond(pairs: Any) -> None:
    rng = np.random.default_rng(0)
    first = EmbeddingAligner().fit(pairs.images, pairs.texts)
    second = EmbeddingAligner().fit(rng.permutation(pairs.images), rng.permutation(pairs.texts))
    for name, value in first.statistics_.items():
        np.testing.assert_allclose(second.statistics_[name], value, atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(8, 60))
def test_texts_that_are_images_stay_where_they_are(seed: int, size: int, num: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((num, size)) + 0.3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    aligner = EmbeddingAligner().fit(rows, rows[::-1])
    assert aligner.statistics_["scale"].item() == pytest.approx(1.0)
    np.testing.assert_allclose(aligner.statistics_["centroid"], aligner.statistics_["mu_x"], atol=1e-12)
    np.testing.assert_allclose(aligner.transform(rows), rows, atol=1e-5)


def test_lengths_do_not_matter(pairs: Any) -> None:
    lengths = np.random.default_rng(1).uniform(0.1, 9.0, size=(len(pairs.texts), 1))
    plain = EmbeddingAligner().fit(pairs.images, pairs.texts)
    scaled = EmbeddingAligner().fit(5 * pairs.images, lengths * pairs.texts)
    np.testing.assert_allclose(scaled.transform(lengths * pairs.texts), plain.transform(pairs.texts), atol=1e-5)


def test_a_transform_fitted_on_another_domain_is_worse(pairs: Any) -> None:
    from askesis.alignment.synthetic import make_world

    other = make_world(0, size=32, rank=8, classes=20, domain="b").draw(2000, "pairs")
    for ours, theirs in ((pairs, other), (other, pairs)):
        own = EmbeddingAligner().fit(ours.images, ours.texts).transform(ours.texts)
        foreign = EmbeddingAligner().fit(theirs.images, theirs.texts).transform(ours.texts)
        assert centroid_gap(ours.images, foreign) > 10 * centroid_gap(ours.images, own)


def test_progress_is_told_and_rows_land_in_the_array_that_was_given(pairs: Any) -> None:
    out = np.zeros(pairs.texts.shape, dtype=np.float32)
    seen: list[int] = []
    moved = EmbeddingAligner().fit(pairs.images, pairs.texts).transform(pairs.texts, out=out, notify=seen.append)
    assert moved is out and sum(seen) == len(pairs.texts) and out.any(axis=1).all()


def test_mistakes_name_their_cause(pairs: Any, tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match="did you mean 'realign'"):
        EmbeddingAligner("realing")
    with pytest.raises(AlignmentError, match="sigma, energy"):
        EmbeddingAligner(sigmoid=1.0)
    with pytest.raises(AlignmentError, match="not fitted"):
        EmbeddingAligner().transform(pairs.texts)
    with pytest.raises(AlignmentError, match="not fitted"):
        EmbeddingAligner().save(tmp_path / "t.safetensors")
    with pytest.raises(AlignmentError, match="images 32, texts 31"):
        EmbeddingAligner().fit(pairs.images, pairs.texts[:, :31])
    with pytest.raises(AlignmentError, match="another size"):
        EmbeddingAligner().fit(pairs.images, pairs.texts).transform(pairs.texts[:, :31])
    with pytest.raises(AlignmentError, match="rank-deficient"):
        EmbeddingAligner("whiten").fit(pairs.images[:32], pairs.texts)
    with pytest.raises(AlignmentError, match="cannot be read"):
        EmbeddingAligner.load(tmp_path / "none.safetensors")
    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AlignmentError, match="no transform"):
        EmbeddingAligner.load(tmp_path / "other.safetensors")
