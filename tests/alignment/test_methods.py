"""What each method promises of the cloud it was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from askesis.alignment import AlignmentError, EmbeddingAligner, moments_of
from askesis.alignment.gap import centroid_gap, neighbour_overlap
from askesis.alignment.methods import Options
from askesis.alignment.stages import apply_stages


def before_projection(aligner: EmbeddingAligner, unit: Any, stage: int) -> Any:
    """What stage ``stage`` computes before it goes back to the sphere."""
    unit = apply_stages(aligner.stages_[:stage], unit)
    here = aligner.stages_[stage]
    return here.scale * unit + here.shift


def test_identities_of_the_fit(pairs: Any) -> None:
    aligner = EmbeddingAligner().fit(pairs.images, pairs.texts)
    x, y = moments_of(pairs.images), moments_of(pairs.texts, covariance=True)
    affine, last = (before_projection(aligner, pairs.texts, stage) for stage in (0, 1))
    np.testing.assert_allclose(affine.mean(axis=0), x.mean, atol=1e-12)
    assert np.trace(np.cov(affine.T, bias=True)) == pytest.approx(x.trace, abs=1e-12)
    assert np.mean(np.sum(affine**2, axis=1)) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(last.mean(axis=0), x.mean, atol=1e-12)
    final = apply_stages(aligner.stages_, pairs.texts)
    left = np.linalg.norm(aligner.statistics_["centroid"] - x.mean)
    assert centroid_gap(pairs.images, final) <= left
    # Only the size of the cloud changes: its directions and the shares of its spectrum stay.
    scale = aligner.statistics_["scale"].item()
    np.testing.assert_allclose(np.cov(affine.T, bias=True), scale**2 * y.covariance, atol=1e-12)


def test_equal_traces_leave_nothing_to_scale(pairs: Any) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0]
    texts = pairs.images @ turn
    ours = EmbeddingAligner("anchor_trace").fit(pairs.images, texts)
    plain = EmbeddingAligner("mean_shift").fit(pairs.images, texts)
    np.testing.assert_allclose(ours.transform(texts), plain.transform(texts), atol=1e-5)


def test_c3_without_noise_is_the_mean_shift(pairs: Any) -> None:
    quiet = EmbeddingAligner("c3", sigma=0.0).fit(pairs.images, pairs.texts).transform(pairs.texts)
    shifted = EmbeddingAligner("mean_shift").fit(pairs.images, pairs.texts).transform(pairs.texts)
    np.testing.assert_allclose(quiet, shifted, atol=1e-6)
    loud = EmbeddingAligner("c3", sigma=0.3).fit(pairs.images, pairs.texts).transform(pairs.texts)
    assert neighbour_overlap(pairs.texts, loud) < 0.3 * neighbour_overlap(pairs.texts, shifted)


def test_whitening_gives_the_covariance_of_the_images(pairs: Any) -> None:
    aligner = EmbeddingAligner("whiten").fit(pairs.images, pairs.texts)
    (stage,) = aligner.stages_
    moved = pairs.texts @ stage.matrix.T + stage.shift
    np.testing.assert_allclose(np.cov(moved.T, bias=True), np.cov(pairs.images.T, bias=True), atol=1e-10)
    np.testing.assert_allclose(moved.mean(axis=0), pairs.images.mean(axis=0), atol=1e-10)


def test_blockwise_as_printed_moves_the_mean_and_centred_does_not(pairs: Any) -> None:
    gaps = {}
    for centred in (True, False):
        aligner = EmbeddingAligner("blockwise", centred=centred).fit(pairs.images, pairs.texts)
        anchored = apply_stages(aligner.stages_[:1], pairs.texts)
        stage = aligner.stages_[1]
        gaps[centred] = np.linalg.norm((anchored @ stage.matrix.T + stage.shift - anchored).mean(axis=0))
    assert gaps[True] < 1e-10 < 1e-3 < gaps[False]
    # Blocks do not talk to each other: the matrix commutes with the projection to U.
    from askesis.alignment.frame import fixed_frame

    frame = fixed_frame(
        moments_of(pairs.images, covariance=True).covariance, moments_of(pairs.texts, covariance=True).covariance
    )
    np.testing.assert_allclose(frame.project_v @ stage.matrix @ frame.project_u, 0.0, atol=1e-9)


def test_the_steps_close_the_gap_one_by_one(pairs: Any) -> None:
    gaps = [
        centroid_gap(pairs.images, EmbeddingAligner(method).fit_transform(pairs.images, pairs.texts))
        for method in ("none", "mean_shift", "anchor_trace", "realign")
    ]
    assert gaps == sorted(gaps, reverse=True) and gaps[3] < 0.1 * gaps[1]


def test_texts_that_are_all_alike_cannot_be_scaled(pairs: Any) -> None:
    same = np.tile(pairs.texts[:1], (50, 1))
    with pytest.raises(AlignmentError, match="same embedding"):
        EmbeddingAligner().fit(pairs.images, same)


@pytest.mark.parametrize("wrong", [{"sigma": -0.1}, {"energy": 0.0}, {"energy": 1.1}])
def test_constants_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AlignmentError, match="out of its range"):
        Options(**wrong)
