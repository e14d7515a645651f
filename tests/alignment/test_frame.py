"""The decomposition's identities, and the phantom drift's worked numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.alignment import AlignmentError, moments_of
from askesis.alignment.frame import (
    Frame,
    condition,
    coupling,
    decompose,
    drift,
    fixed_frame,
    leakage,
    phantom_drift,
    principal_angle,
    spectrum_agreement,
    stability,
    tangential_drift,
)


def frame_of(images: Any, texts: Any, energy: float = 0.9) -> Frame:
    x, y = moments_of(images, covariance=True), moments_of(texts, covariance=True)
    return fixed_frame(x.covariance, y.covariance, energy=energy)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12), st.floats(0.2, 0.99))
def test_four_components_add_up(seed: int, size: int, energy: float) -> None:
    rng = np.random.default_rng(seed)
    images, texts = rng.standard_normal((40, size)) + 1, rng.standard_normal((40, size))
    frame = frame_of(images, texts, energy)
    beta, gamma, delta, zeta = decompose(frame, images, texts)
    np.testing.assert_allclose(beta + gamma + delta + zeta, images - texts, atol=1e-12)
    np.testing.assert_allclose(delta.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(zeta.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(frame.project_u @ gamma, 0, atol=1e-12)
    np.testing.assert_allclose(frame.project_v @ beta, 0, atol=1e-12)
    np.testing.assert_allclose(np.sum(delta * zeta, axis=1), 0, atol=1e-12)
    # Without removing the bias, the second moment in U holds it too.
    seen = (images - texts) @ frame.project_u
    np.testing.assert_allclose(seen.T @ seen / 40, np.outer(beta, beta) + delta.T @ delta / 40, atol=1e-11)


def test_the_rank_is_the_smallest_that_holds_the_energy() -> None:
    frames = [fixed_frame(np.diag([1.0, 8.0, 0.5, 0.5]), np.zeros((4, 4)), energy=e) for e in (0.8, 0.81, 0.9, 1.0)]
    ranks = [frame.basis.shape[1] for frame in frames]
    assert ranks == [1, 2, 2, 4]


def test_points_and_unequal_pairs_are_refused(pairs: Any) -> None:
    with pytest.raises(AlignmentError, match="single points"):
        fixed_frame(np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(AlignmentError, match="needs pairs"):
        decompose(frame_of(pairs.images, pairs.texts), pairs.images, pairs.texts[:-1])


@pytest.mark.parametrize(("step", "exact"), [(0.75, -0.2), (0.1, -0.004963)])
def test_phantom_drift_across_the_mean(step: float, exact: float) -> None:
    mean, away = np.array([1.0, 0.0]), np.array([[0.0, step], [0.0, -step]])
    points = mean + away
    true = (points / np.linalg.norm(points, axis=1, keepdims=True)).mean(axis=0) - mean
    np.testing.assert_allclose(true, [exact, 0], atol=1e-6)
    formula = phantom_drift(mean, np.cov(away.T, bias=True))
    np.testing.assert_allclose(formula, [-(step**2) / 2, 0], atol=1e-12)


def test_phantom_drift_turns_the_centroid_when_the_cloud_is_oblique() -> None:
    mean, away = np.array([1.0, 0.0]), np.array([[0.1, 0.1], [-0.1, -0.1]])
    points = mean + away
    true = (points / np.linalg.norm(points, axis=1, keepdims=True)).mean(axis=0) - mean
    covariance = np.cov(away.T, bias=True)
    assert true[1] == pytest.approx(-0.0099479, abs=1e-6)
    assert phantom_drift(mean, covariance)[1] == pytest.approx(-0.01)
    np.testing.assert_allclose(tangential_drift(mean, covariance), [0, -0.01], atol=1e-12)
    np.testing.assert_allclose(tangential_drift(np.array([3.0, 4.0]), 0.3 * np.eye(2)), 0, atol=1e-15)


def test_drift_and_stability_by_hand() -> None:
    assert drift(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(4 / 3)
    assert stability(np.array([1.0, 1.0]), np.array([2.0, 0.0])) == pytest.approx(2**-0.5)
    gamma, eta = np.array([1.0, 0.0]), 0.3 * np.array([0.6, 0.8])
    assert stability(gamma + eta, gamma) >= 1 - 2 * 0.3**2 / (1 - 0.3) ** 2


def test_leakage_is_bounded_by_the_angle() -> None:
    frame = Frame(basis=np.eye(3)[:, :2], eigenvalues=np.ones(3))
    angle = 0.3
    turned = np.array([[1.0, 0.0], [0.0, np.cos(angle)], [0.0, np.sin(angle)]])
    assert principal_angle(turned, frame) == pytest.approx(angle)
    gradients = np.random.default_rng(0).standard_normal((50, 2)) @ turned.T
    assert leakage(gradients, frame) <= np.sin(angle)
    assert leakage(np.array([[3.0, 0.0, 4.0]]), frame) == pytest.approx(0.8)


def test_anisotropy_and_spectra() -> None:
    assert condition(2 * np.eye(5)) == pytest.approx(1.0)
    assert condition(np.diag([8.0, 1.0, 0.6, 0.4])) == pytest.approx(8 / 0.6)
    assert spectrum_agreement(np.diag([1.0, 2.0, 3.0]), np.diag([60.0, 20.0, 40.0])) == pytest.approx(1.0)


def test_coupling_finds_a_linear_map_and_no_other() -> None:
    rng = np.random.default_rng(0)
    delta = rng.standard_normal((500, 2))
    bound = coupling(delta, delta @ np.array([[3.0, 0.0], [0.0, 0.5]]))
    assert bound.norm == pytest.approx(3.0, abs=1e-5) and bound.r_squared == pytest.approx(1.0)
    assert coupling(delta, rng.standard_normal((500, 2))).r_squared < 0.05
