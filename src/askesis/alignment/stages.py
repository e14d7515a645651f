"""A transform as a row of stages, each "scale or rotate, shift, back to the unit sphere", and its fast application.

Most methods only scale and shift. Then every result is ``a e + b_1 v_1 + ... + b_k v_k`` with one shift ``v`` per
stage, and all norms follow from the products of ``e`` with the shifts and of the shifts with each other. So one pass
over the data is enough, however many times it is brought back to the sphere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askesis.alignment.checks import BLOCK_ROWS, AlignmentError, Array, refuse_bad_norms
from askesis.streams import generator

__all__ = ["Stage", "apply_fast", "apply_stages"]

_COLLAPSED = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``pi(scale * e + shift + sigma n)``, or ``pi(matrix e + shift + sigma n)``, with standard normal ``n``.

    Args:
        scale: a number; 1 where there is a matrix.
        shift: [d].
        matrix: [d, d], or None.
        sigma: standard deviation of the noise of every coordinate.
    """

    scale: float
    shift: Array
    matrix: Array | None = None
    sigma: float = 0.0

    @property
    def is_simple(self) -> bool:
        """It only scales and shifts."""
        return self.matrix is None and self.sigma == 0


def apply_stages(stages: Sequence[Stage], unit: Array, first: int = 0, *, seed: int = 0) -> Array:
    """Unit rows [n, d] in float64 through all stages, step by step: the reference.

    Args:
        stages: the transform.
        unit: rows that already have unit length.
        first: place of the first row in its cloud, a multiple of :data:`BLOCK_ROWS`; only noise depends on it.
        seed: of the noise.
    """
    for number, stage in enumerate(stages):
        moved = stage.scale * unit if stage.matrix is None else unit @ stage.matrix.T
        moved = moved + stage.shift
        if stage.sigma:
            moved += stage.sigma * _noise(seed, number, first, unit.shape)
        norms = np.linalg.norm(moved, axis=1, keepdims=True)
        _refuse_collapse(norms, first)
        unit = moved / norms
    return unit


def apply_fast(stages: Sequence[Stage], rows: NDArray[Any], out: NDArray[np.float32], first: int = 0) -> None:
    """Rows [n, d] of any length through simple stages into ``out``, float32, in one pass.

    Raises AlignmentError, naming the row, for NaN, infinity, a zero vector, or one that a stage moves to zero.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    shifts = np.stack([stage.shift for stage in stages])
    squared = np.einsum("nd,nd->n", rows, rows).astype(np.float64)
    refuse_bad_norms(np.sqrt(squared), name="texts", first=first)
    with_shifts = (rows @ shifts.T.astype(np.float32)).astype(np.float64)
    among = shifts @ shifts.T
    own = 1.0 / np.sqrt(squared)
    parts = np.zeros((len(rows), len(stages)))
    for number, stage in enumerate(stages):
        own *= stage.scale
        parts *= stage.scale
        parts[:, number] += 1.0
        length = own**2 * squared + 2 * own * np.einsum("nk,nk->n", parts, with_shifts)
        length += np.einsum("nk,kl,nl->n", parts, among, parts)
        norms = np.sqrt(np.maximum(length, 0.0))
        _refuse_collapse(norms[:, None], first)
        own /= norms
        parts /= norms[:, None]
    np.multiply(rows, own.astype(np.float32)[:, None], out=out)
    _add_product(out, parts.astype(np.float32), shifts.astype(np.float32))


def _add_product(out: NDArray[np.float32], left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
    """``out += left @ right`` without a temporary of its size: BLAS adds in place, to the transpose (Fortran order)."""
    from scipy.linalg.blas import sgemm  # a second to load

    done = sgemm(1.0, right.T, left.T, beta=1.0, c=out.T, overwrite_c=1)
    if not np.shares_memory(done, out):  # it copied, since ``out`` is not contiguous
        out[:] = done.T


def _noise(seed: int, stage: int, first: int, shape: tuple[int, ...]) -> Array:
    drawn = []
    for start in range(first, first + shape[0], BLOCK_ROWS):
        stream = generator(seed, "alignment", "noise", stage, start // BLOCK_ROWS)
        drawn.append(stream.standard_normal((min(BLOCK_ROWS, first + shape[0] - start), shape[1])))
    return np.concatenate(drawn)


def _refuse_collapse(norms: Array, first: int) -> None:
    if norms.min() < _COLLAPSED:
        raise AlignmentError(
            "a stage moves an embedding to the origin, where no direction is left",
            where=f"row {first + int(np.argmin(norms))}",
            next_step="look for embeddings that are opposite to the shift of the means",
        )
