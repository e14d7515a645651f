"""How large the gap between two clouds is, and what aligning has done to the texts.

All embeddings are brought to unit length first. Where the paper (Yu et al. 2026, section 5 and appendix D) gives no
definition, ours is stated and marked *inferred*; figures of other papers use other definitions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from askesis.alignment.checks import AlignmentError, Array, Source, check_pair, unit_rows
from askesis.alignment.frame import condition
from askesis.streams import generator

__all__ = [
    "GapReport",
    "centroid_gap",
    "cosine_divergence",
    "effective_dimensions",
    "measure_gap",
    "mixing",
    "neighbour_overlap",
    "recall_at_1",
    "spectrum",
    "spectrum_exponent",
]

_BINS = 200
_PAIRS = 200_000
_CHUNK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """Two clouds side by side; ``texts`` are the aligned ones.

    Args:
        gap: distance of the two centroids.
        trace_ratio: trace of the texts' covariance over that of the images; 1 is best.
        mixing_texts: share of images among the 20 nearest neighbours of a text in both clouds.
        mixing_images: share of texts among those of an image; half and half is best.
        divergence: Jensen-Shannon, of the cosines within each cloud, in nats; 0 is best.
        overlap: share of a text's 10 nearest texts that were so before aligning; 1 is best; None without the original.
        exponent_texts: power-law exponent of the texts' spectrum.
        exponent_images: that of the images.
        condition_texts: anisotropy of the texts, see :func:`askesis.alignment.frame.condition`.
        condition_images: that of the images.
        dimensions_texts: effective dimensions, trace squared over trace of the square.
        dimensions_images: that of the images.
        num_images: rows used.
        num_texts: rows used.
    """

    gap: float
    trace_ratio: float
    mixing_texts: float
    mixing_images: float
    divergence: float
    overlap: float | None
    exponent_texts: float
    exponent_images: float
    condition_texts: float
    condition_images: float
    dimensions_texts: float
    dimensions_images: float
    num_images: int
    num_texts: int

    def as_dict(self) -> dict[str, float | int | None]:
        """JSON-ready."""
        return asdict(self)


def measure_gap(images: Source, texts: Source, *, original: Source | None = None, limit: int = 5000) -> GapReport:
    """All measures of images [n, d] and texts [m, d].

    Args:
        images: the target.
        texts: aligned, or not.
        original: the same texts before aligning, for the overlap.
        limit: rows of each that are used, evenly spread; the work grows with its square.

    Raises:
        AlignmentError: sizes differ, NaN, a zero vector, texts and originals that do not correspond, too few rows.
    """
    check_pair(images, texts)
    if original is not None and original.shape != texts.shape:
        raise AlignmentError(
            "these are not the same texts before and after",
            got=f"{original.shape} before, {texts.shape} after",
            expected="row i of both is the same text",
        )
    x, y = (_some(source, limit, name) for source, name in ((images, "images"), (texts, "texts")))
    if min(len(x), len(y)) <= 20:
        raise AlignmentError("too few rows for neighbours", got=f"{len(x)} and {len(y)}", expected="more than 20")
    before = None if original is None else _some(original, limit, "original texts")
    mixed_y, mixed_x = mixing(y, x), mixing(x, y)
    cov_x, cov_y = np.cov(x.T, bias=True), np.cov(y.T, bias=True)
    return GapReport(
        gap=centroid_gap(x, y),
        trace_ratio=float(np.trace(cov_y) / np.trace(cov_x)),
        mixing_texts=mixed_y,
        mixing_images=mixed_x,
        divergence=cosine_divergence(x, y),
        overlap=None if before is None else neighbour_overlap(before, y),
        exponent_texts=spectrum_exponent(spectrum(y)),
        exponent_images=spectrum_exponent(spectrum(x)),
        condition_texts=condition(cov_y),
        condition_images=condition(cov_x),
        dimensions_texts=effective_dimensions(cov_y),
        dimensions_images=effective_dimensions(cov_x),
        num_images=len(x),
        num_texts=len(y),
    )


def centroid_gap(images: Array, texts: Array) -> float:
    """Distance of the means of images [n, d] and texts [m, d]."""
    return float(np.linalg.norm(images.mean(axis=0) - texts.mean(axis=0)))


def spectrum(rows: Array) -> Array:
    """Eigenvalues of the covariance of rows [n, d], largest first, without those that are 0 because n is small."""
    centred = rows - rows.mean(axis=0)
    values: Array = np.linalg.svd(centred, compute_uv=False) ** 2 / len(rows)
    return values[: min(len(rows) - 1, rows.shape[1])]


def spectrum_exponent(values: Array) -> float:
    """The a of ``eigenvalue ~ rank^-a``, by least squares in logarithms over the leading half (range *inferred*)."""
    leading = values[: max(2, len(values) // 2)]
    leading = leading[leading > 1e-12 * leading[0]]
    if len(leading) < 2:
        return float("nan")
    ranks = np.log(np.arange(1, len(leading) + 1))
    return float(-np.polyfit(ranks, np.log(leading), 1)[0])


def effective_dimensions(covariance: Array) -> float:
    """``trace^2 / trace of the square`` of a covariance [d, d]: d when it is isotropic, 1 for a line."""
    return float(np.trace(covariance) ** 2 / np.sum(covariance**2))


def cosine_divergence(images: Array, texts: Array, *, seed: int = 0) -> float:
    """Jensen-Shannon divergence, in nats, of the cosines of pairs of images and of pairs of texts.

    Histograms of 200 bins over -1 to 1, of up to 200,000 pairs each (*inferred*).
    """
    first, second = (_cosines(rows, seed) for rows in (images, texts))
    middle = (first + second) / 2
    return float(sum(np.sum(p[p > 0] * np.log(p[p > 0] / middle[p > 0])) for p in (first, second)) / 2)


def mixing(queries: Array, others: Array, *, k: int = 20) -> float:
    """Share of ``others`` among the k nearest neighbours of each query in the union of both clouds."""
    pool = np.concatenate([queries, others])
    found = _nearest(queries, pool, k, skip_self=True)
    return float((found >= len(queries)).mean())


def neighbour_overlap(before: Array, after: Array, *, k: int = 10) -> float:
    """Share of each row's k nearest rows before [n, d] that are among its k nearest after."""
    return float(np.mean(overlap_of_rows(before, after, k=k)))


def overlap_of_rows(before: Array, after: Array, *, k: int = 10) -> Array:
    """:func:`neighbour_overlap` of each row, [n]."""
    old, new = _nearest(before, before, k, skip_self=True), _nearest(after, after, k, skip_self=True)
    both: Array = (old[:, :, None] == new[:, None, :]).any(axis=2).mean(axis=1)
    return both


def recall_at_1(texts: Array, images: Array) -> float:
    """Share of texts [n, d] whose nearest image is their own: row i of both is a pair."""
    return float((_nearest(texts, images, 1, skip_self=False)[:, 0] == np.arange(len(texts))).mean())


def _some(source: Source, limit: int, name: str) -> Array:
    """Up to ``limit`` rows, evenly spread, at unit length."""
    num = source.shape[0]
    step = max(1, -(-num // limit))
    return unit_rows(np.asarray(source[slice(0, num, step)]), name=name)


def _cosines(rows: Array, seed: int) -> Array:
    stream = generator(seed, "alignment", "pairs")
    num = len(rows)
    first = stream.integers(0, num, size=_PAIRS)
    second = (first + stream.integers(1, num, size=_PAIRS)) % num
    cosines = np.concatenate(
        [np.einsum("pd,pd->p", rows[first[i : i + 4096]], rows[second[i : i + 4096]]) for i in range(0, _PAIRS, 4096)]
    )
    counts, _ = np.histogram(np.clip(cosines, -1, 1), bins=_BINS, range=(-1, 1))
    return np.asarray(counts / _PAIRS, dtype=np.float64)


def _nearest(queries: Array, pool: Array, k: int, *, skip_self: bool) -> Array:
    """Places [n, k] in the pool of the largest cosines; with ``skip_self`` query i is row i of the pool."""
    narrow = pool.astype(np.float32)
    found = []
    for start in range(0, len(queries), _CHUNK):
        here = queries[start : start + _CHUNK].astype(np.float32)
        cosines = here @ narrow.T
        if skip_self:
            places = np.arange(len(here))
            cosines[places, start + places] = -np.inf
        found.append(np.argpartition(-cosines, k - 1, axis=1)[:, :k])
    return np.concatenate(found)
