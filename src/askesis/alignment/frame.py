"""The gap in a fixed frame U + V: two constant biases and two residuals, with the paper's diagnostics.

Yu et al. 2026, section 3.2 (arXiv 2602.07026v3). U is spanned by the leading eigenvectors of the sum of both
covariances, V is what is left. What the paper leaves open is marked *inferred*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from askesis.alignment.checks import AlignmentError, Array

__all__ = [
    "Coupling",
    "Decomposition",
    "Frame",
    "condition",
    "coupling",
    "decompose",
    "drift",
    "fixed_frame",
    "leakage",
    "phantom_drift",
    "principal_angle",
    "spectrum_agreement",
    "stability",
    "tangential_drift",
]

_EPS = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """``basis`` [d, r] spans U; its columns are orthonormal. ``eigenvalues`` [d], largest first."""

    basis: Array
    eigenvalues: Array

    @property
    def project_u(self) -> Array:
        """P_U [d, d]."""
        projection: Array = self.basis @ self.basis.T
        return projection

    @property
    def project_v(self) -> Array:
        """P_V [d, d]."""
        projection: Array = np.eye(len(self.basis)) - self.project_u
        return projection


class Decomposition(NamedTuple):
    """``Delta = beta + gamma + delta + zeta`` for every pair."""

    beta: Array
    """[d], in U: the principal mean bias (PMB)."""
    gamma: Array
    """[d], in V: the passive orthogonal bias (POB; COB in the paper's first version)."""
    delta: Array
    """[n, d], in U, mean 0."""
    zeta: Array
    """[n, d], in V, mean 0."""


class Coupling(NamedTuple):
    """How well V-residuals follow from U-residuals: the norm of the linear map, and its share of variance."""

    norm: float
    r_squared: float


def fixed_frame(cov_x: Array, cov_y: Array, *, energy: float = 0.9) -> Frame:
    """The frame of two covariances [d, d]: r is the smallest number of eigenvalues that hold ``energy`` of their sum.

    The threshold is *inferred*. AlignmentError when both clouds are single points.
    """
    values, vectors = np.linalg.eigh(cov_x + cov_y)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if values.sum() <= 0:
        raise AlignmentError("both clouds are single points, which have no frame", got=f"eigenvalues {values[:3]}")
    shares = np.cumsum(values) / values.sum()
    rank = int(np.searchsorted(shares, energy - _EPS)) + 1
    return Frame(basis=vectors[:, :rank], eigenvalues=values)


def decompose(frame: Frame, images: Array, texts: Array) -> Decomposition:
    """The four components of the gap of pairs [n, d]: row i of both is one pair. AlignmentError when shapes differ."""
    if images.shape != texts.shape:
        raise AlignmentError(
            "the decomposition needs pairs",
            got=f"images {images.shape}, texts {texts.shape}",
            expected="row i of both belongs together",
        )
    gaps = images.astype(np.float64) - texts
    mean = gaps.mean(axis=0)
    beta = frame.project_u @ mean
    residual = gaps - mean
    delta = residual @ frame.project_u
    return Decomposition(beta, mean - beta, delta, residual - delta)


def drift(gamma: Array, reference: Array) -> float:
    """How far the orthogonal bias [d] has moved from ``reference``, relative to it."""
    return float(np.linalg.norm(gamma - reference) / max(float(np.linalg.norm(reference)), _EPS))


def stability(gamma: Array, before: Array) -> float:
    """Cosine of the orthogonal biases [d] of two steps."""
    norms = float(np.linalg.norm(gamma) * np.linalg.norm(before))
    return float(gamma @ before) / max(norms, _EPS)


def principal_angle(basis: Array, frame: Frame) -> float:
    """The largest angle, in radians, between a subspace with orthonormal ``basis`` [d, k] and U."""
    outside = float(np.linalg.norm(frame.project_v @ basis, ord=2))
    return float(np.arcsin(min(1.0, outside)))


def leakage(gradients: Array, frame: Frame) -> float:
    """Share of the gradients' [n, d] root mean square that lies in V (the reading as RMS is *inferred*)."""
    total = float(np.sum(gradients**2))
    return float(np.sqrt(np.sum((gradients @ frame.project_v) ** 2) / max(total, _EPS)))


def spectrum_agreement(first: Array, second: Array) -> float:
    """Pearson correlation of the sorted eigenvalues of two covariances [r, r]."""
    return float(np.corrcoef(np.linalg.eigvalsh(first), np.linalg.eigvalsh(second))[0, 1])


def condition(covariance: Array) -> float:
    """Anisotropy of a covariance [d, d]: its largest eigenvalue over the one at which 95 % of the trace are reached.

    The paper's "effective condition number" has no formula; this one is *inferred*. It is 1 for an isotropic cloud.
    """
    values: Array = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)
    place = int(np.searchsorted(np.cumsum(values) / max(float(values.sum()), _EPS), 0.95 - _EPS))
    return float(values[0] / max(float(values[min(place, len(values) - 1)]), _EPS))


def coupling(delta: Array, zeta: Array, *, ridge: float = 1e-6) -> Coupling:
    """The ridge regression of V-residuals on U-residuals, both [n, d]."""
    gram = delta.T @ delta + ridge * np.eye(delta.shape[1])
    linear = np.linalg.solve(gram, delta.T @ zeta).T
    left = float(np.sum((zeta - delta @ linear.T) ** 2))
    return Coupling(float(np.linalg.norm(linear, ord=2)), 1.0 - left / max(float(np.sum(zeta**2)), _EPS))


def phantom_drift(mean: Array, covariance: Array) -> Array:
    """How far, to second order, projecting to the sphere moves the centroid of ``mean + eps`` from ``pi(mean)``.

    Section 3.3: ``-(S a)/r^2 - tr(S) a/(2 r^2) + 3 (a'S a) a/(2 r^2)`` with ``r`` the norm of the mean [d], ``a`` its
    direction and ``S`` the covariance [d, d] of ``eps``.
    """
    radius = float(np.linalg.norm(mean))
    a = mean / radius
    moved = covariance @ a
    change: Array = (-moved - 0.5 * np.trace(covariance) * a + 1.5 * float(a @ moved) * a) / radius**2
    return change


def tangential_drift(mean: Array, covariance: Array) -> Array:
    """The part of :func:`phantom_drift` at right angles to the mean; zero for an isotropic covariance."""
    drifted = phantom_drift(mean, covariance)
    a = mean / np.linalg.norm(mean)
    across: Array = drifted - float(drifted @ a) * a
    return across
