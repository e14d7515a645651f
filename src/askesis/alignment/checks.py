"""What every part of this package asks of embeddings, and the error that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from askesis.errors import AskesisError

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "AlignmentError",
    "Array",
    "Source",
    "blocks",
    "check_pair",
    "check_source",
    "refuse_bad_norms",
    "unit_rows",
]

Array = NDArray[np.float64]

BLOCK_BYTES = 2 << 20
"""Of the float32 rows that are worked on at once: they stay in a core's cache."""
BLOCK_ROWS = 256
"""Blocks begin at multiples of this, so that a stream of noise can belong to a place."""


class AlignmentError(AskesisError, ValueError):
    """Embeddings that cannot be aligned or measured, or a transform that does not fit them."""


class Source(Protocol):
    """Embeddings [n, d]: an array, a memory-mapped one, or a file that is read slice by slice."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


def check_source(source: Source, name: str) -> tuple[int, int]:
    """The shape (n, d) of embeddings. AlignmentError unless they are a table with at least two rows."""
    shape = tuple(source.shape)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 2:
        raise AlignmentError(
            "these are no embeddings",
            where=name,
            got=f"shape {shape}",
            expected="a table [n, d] with at least 2 rows and 2 columns",
        )
    return shape[0], shape[1]


def check_pair(images: Source, texts: Source) -> int:
    """The common size d of two clouds. AlignmentError when they differ."""
    (_, d_x), (_, d_y) = check_source(images, "images"), check_source(texts, "texts")
    if d_x != d_y:
        raise AlignmentError(
            "images and texts have embeddings of different sizes",
            got=f"images {d_x}, texts {d_y}",
            expected="one size: both towers of one dual encoder",
            next_step="check that both files come from the same encoder",
        )
    return d_x


def blocks(source: Source) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first row, rows) of about :data:`BLOCK_BYTES` each, a multiple of :data:`BLOCK_ROWS`
    rows except for the last.
    """
    num, size = source.shape
    rows = BLOCK_BYTES // (4 * size)
    rows = max(BLOCK_ROWS, rows - rows % BLOCK_ROWS)
    for first in range(0, num, rows):
        yield first, np.asarray(source[slice(first, min(first + rows, num))])


def unit_rows(rows: NDArray[Any], *, name: str, first: int = 0) -> Array:
    """Rows [n, d] as float64 unit vectors. AlignmentError, naming the row, for NaN, infinity and the zero vector."""
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    refuse_bad_norms(norms, name=name, first=first)
    wide /= norms[:, None]
    return wide


def refuse_bad_norms(norms: NDArray[Any], *, name: str, first: int = 0) -> None:
    """AlignmentError unless all norms [n] are finite and above 0."""
    good = np.isfinite(norms) & (norms > 0)
    if not good.all():
        place = int(np.argmin(good))
        zero = norms[place] == 0
        raise AlignmentError(
            "an embedding is the zero vector" if zero else "an embedding holds NaN or infinity",
            where=f"{name}, row {first + place}",
            got=f"{int((~good).sum())} such rows of {len(norms)} looked at",
            expected="vectors with a direction, finite in every place",
            next_step="drop these rows, or look at what the encoder was given for them",
        )
