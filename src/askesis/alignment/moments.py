"""Mean, trace and covariance of a cloud of unit embeddings, in one pass and in memory that does not grow with it.

Sums are float64. Two halves are merged by the update of Chan, Golub and LeVeque (1979), so a cloud may be cut in any
way, also over processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from askesis.alignment.checks import AlignmentError, Array, Source, blocks, check_source, unit_rows

__all__ = ["Moments", "moments_of", "power_of"]

Apply = Callable[[Array, int], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Statistics of ``count`` unit vectors.

    Args:
        count: rows seen.
        mean: [d]; its norm is below 1.
        spread: sum of squared distances to the mean.
        scatter: [d, d], sum of outer products of the distances; None when it was not asked for.
    """

    count: int
    mean: Array
    spread: float
    scatter: Array | None = None

    @property
    def trace(self) -> float:
        """Mean squared distance to the mean: the trace of the covariance."""
        return self.spread / self.count

    @property
    def covariance(self) -> Array:
        """[d, d], divided by the count. AlignmentError when it was not asked for."""
        if self.scatter is None:
            raise AlignmentError("the covariance was not gathered", next_step="moments_of(source, covariance=True)")
        covariance: Array = self.scatter / self.count
        return covariance

    def merge(self, other: Moments) -> Moments:
        """The statistics of both clouds together. Both have a scatter matrix or none has."""
        count = self.count + other.count
        offset = other.mean - self.mean
        weight = self.count * other.count / count
        scatter = None
        if self.scatter is not None and other.scatter is not None:
            scatter = self.scatter + other.scatter + weight * np.outer(offset, offset)
        return Moments(
            count=count,
            mean=self.mean + offset * (other.count / count),
            spread=self.spread + other.spread + weight * float(offset @ offset),
            scatter=scatter,
        )


def moments_of(
    source: Source, *, name: str = "embeddings", covariance: bool = False, through: Apply | None = None
) -> Moments:
    """The statistics of all rows [n, d], each first brought to unit length.

    Args:
        source: embeddings.
        name: for error messages.
        covariance: also the d x d matrix.
        through: what is done to unit rows before they count, given the place of the first; None is nothing.

    Raises:
        AlignmentError: NaN, infinity or a zero vector, with its row.
    """
    check_source(source, name)
    total: Moments | None = None
    for first, rows in blocks(source):
        unit = unit_rows(rows, name=name, first=first)
        if through is not None:
            unit = through(unit, first)
        mean = unit.mean(axis=0)
        unit = unit - mean
        part = Moments(
            count=len(unit),
            mean=mean,
            spread=float(np.einsum("nd,nd->", unit, unit)),
            scatter=unit.T @ unit if covariance else None,
        )
        total = part if total is None else total.merge(part)
    assert total is not None  # check_source refuses an empty table
    return total


def power_of(matrix: Array, exponent: float, *, floor: float = 1e-8) -> Array:
    """A symmetric matrix [d, d] to a power, by its eigenvalues; those below ``floor`` times the largest count as that.

    The floor keeps an inverse square root from blowing up directions that hold no data.
    """
    values, vectors = np.linalg.eigh(matrix)
    clipped = np.maximum(values, floor * values[-1])
    power: Array = (vectors * clipped**exponent) @ vectors.T
    return power
