"""Pairs of embeddings whose gap is known: a class structure that both share, biases, and anisotropic residuals.

``x = pi(B_x s + L_x n + m_x)``, ``y = pi((B_y s + L_y n)/2 + m_y)``: s is a class centre plus noise with a power-law
spectrum; B_y is B_x slightly rotated; L are independent anisotropic residuals; m are constant biases. A second domain
has other biases and another spectrum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from askesis.alignment.checks import Array
from askesis.streams import generator

__all__ = ["Pairs", "World", "make_world"]


class Pairs(NamedTuple):
    """Row i of ``images`` [n, d] and ``texts`` [n, d] is a pair, of class ``labels`` [n]."""

    images: Array
    texts: Array
    labels: NDArray[np.int64]


class World(NamedTuple):
    """The constants of one synthetic world; see the module."""

    seed: int
    spectrum: Array
    centres: Array
    base_x: Array
    base_y: Array
    residual_x: Array
    residual_y: Array
    bias_x: Array
    bias_y: Array

    def draw(self, num: int, purpose: str) -> Pairs:
        """``num`` pairs from the stream called ``purpose``."""
        rng = generator(self.seed, "alignment", "synthetic", purpose)
        labels = rng.integers(0, len(self.centres), size=num)
        shared = self.centres[labels] + 0.9 * self.spectrum * rng.standard_normal((num, len(self.spectrum)))
        size = len(self.bias_x)
        x = shared @ self.base_x.T + rng.standard_normal((num, size)) @ self.residual_x.T + self.bias_x
        y = 0.5 * (shared @ self.base_y.T + rng.standard_normal((num, size)) @ self.residual_y.T) + self.bias_y
        return Pairs(_unit(x), _unit(y), labels)


def make_world(
    seed: int, *, size: int = 128, rank: int = 24, classes: int = 100, decay: float = 0.4, domain: str = "a"
) -> World:
    """A world drawn from ``seed``.

    Args:
        seed: names the streams.
        size: d.
        rank: dimensions of the shared structure.
        classes: number of class centres.
        decay: exponent of the shared spectrum.
        domain: another domain has other biases, of the same encoder.
    """
    rng = generator(seed, "alignment", "world")
    spectrum = _power_law(rank, decay)
    centres = rng.standard_normal((classes, rank)) * spectrum
    base_x = np.linalg.qr(rng.standard_normal((size, size)))[0][:, :rank]
    turned, triangle = np.linalg.qr(base_x + 0.35 * rng.standard_normal((size, rank)) / np.sqrt(size))
    residuals = []
    for _ in range(2):
        rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
        residuals.append(0.5 * rotation * _power_law(size, 0.65))
    axes = np.linalg.qr(generator(seed, "alignment", "bias", domain).standard_normal((size, 2)))[0]
    return World(
        seed=seed,
        spectrum=spectrum,
        centres=centres,
        base_x=base_x,
        base_y=turned * np.sign(np.diag(triangle)),
        residual_x=residuals[0],
        residual_y=residuals[1],
        bias_x=0.6 * axes[:, 0],
        bias_y=0.6 * (0.4 * axes[:, 0] + 0.9 * axes[:, 1]),
    )


def _power_law(num: int, exponent: float) -> Array:
    values = np.arange(1, num + 1, dtype=np.float64) ** -exponent
    return np.asarray(values / np.linalg.norm(values))


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
