"""The methods as recipes for stages: ReAlign, its steps one by one, and the baselines.

Notation of Yu et al. 2026 (arXiv 2602.07026v3): x are images (the target, left as they are), y are texts (moved); mu is
the mean of unit embeddings, T the trace of their covariance, pi the projection to the unit sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from askesis.alignment.checks import AlignmentError, Array, Source
from askesis.alignment.frame import fixed_frame
from askesis.alignment.moments import Moments, moments_of, power_of
from askesis.alignment.stages import Stage, apply_stages
from askesis.errors import did_you_mean

__all__ = ["METHODS", "Fit", "Method", "Options", "find_method"]

Fit = tuple[tuple[Stage, ...], dict[str, Array]]

_POINT = 1e-14
"""A trace below this is rounding: the cloud is a point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Constants of the methods that have some.

    Args:
        sigma: C3's noise; 0.1265 is the square root of its official 0.016, and drowns an embedding of many dimensions.
        energy: share of the eigenvalues that the dominant subspace U holds, for ``blockwise`` (the paper prints no
            value; inferred).
        centred: ``blockwise`` turns centred vectors. False is the formula as printed, which also turns the mean.
        seed: of C3's noise.
    """

    sigma: float = 0.1265
    energy: float = 0.9
    centred: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sigma < 0 or not 0 < self.energy <= 1:
            raise AlignmentError(
                "an option is out of its range",
                got=f"sigma={self.sigma}, energy={self.energy}",
                expected="sigma >= 0, 0 < energy <= 1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a transform is fitted. ``fit(x, y, texts, options)`` gives stages, and statistics by name."""

    fit: Callable[[Moments, Moments, Source, Options], Fit]
    about: str
    needs_covariance: bool = False


def find_method(name: str) -> Method:
    """The method called ``name``. AlignmentError, with a close match, when there is none."""
    if name not in METHODS:
        raise AlignmentError(
            f"there is no alignment method called {name!r}",
            expected=", ".join(METHODS),
            next_step=did_you_mean(name, METHODS),
        )
    return METHODS[name]


def _none(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    return (Stage(scale=1.0, shift=np.zeros_like(x.mean)),), {}


def _mean_shift(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    return (Stage(scale=1.0, shift=x.mean - y.mean),), {}


def _c3(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    return (Stage(scale=1.0, shift=x.mean - y.mean, sigma=options.sigma),), {}


def _anchor_trace(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    if y.trace < _POINT:
        raise AlignmentError(
            "all texts have the same embedding, so their spread cannot be scaled",
            where="texts",
            got=f"trace {y.trace:.1e} over {y.count} rows",
            next_step="check that the encoder was given different texts",
        )
    scale = float(np.sqrt(x.trace / y.trace))
    return (Stage(scale=scale, shift=x.mean - scale * y.mean),), {"scale": np.asarray(scale)}


def _realign(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    stages, statistics = _anchor_trace(x, y, texts, options)
    return _recentred(stages, statistics, x, texts)


def _whiten(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    matrix = power_of(x.covariance, 0.5) @ power_of(y.covariance, -0.5)
    return (Stage(scale=1.0, shift=x.mean - matrix @ y.mean, matrix=matrix),), {}


def _whiten_centroid(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    return _recentred(*_whiten(x, y, texts, options), x, texts)


def _blockwise(x: Moments, y: Moments, texts: Source, options: Options) -> Fit:
    (anchor,), _ = _mean_shift(x, y, texts, options)
    moved = _through((anchor,), texts, covariance=True)
    frame = fixed_frame(x.covariance, y.covariance, energy=options.energy)
    matrix = np.zeros_like(x.covariance)
    for projection in (frame.project_u, frame.project_v):
        block_x, block_y = (projection @ c @ projection for c in (x.covariance, moved.covariance))
        if projection.any():
            matrix += projection @ power_of(block_x, 0.5) @ power_of(block_y, -0.5) @ projection
    centre = moved.mean if options.centred else np.zeros_like(x.mean)
    stages = (anchor, Stage(scale=1.0, shift=centre - matrix @ centre, matrix=matrix))
    return _recentred(stages, {}, x, texts)


def _recentred(stages: Sequence[Stage], statistics: dict[str, Array], x: Moments, texts: Source) -> Fit:
    """ReAlign's third step: what the projection did to the centroid is taken back, and projected once more.

    The anchor is the mean of unit images, whose norm is below 1, not its projection.
    """
    centroid = _through(stages, texts).mean
    last = Stage(scale=1.0, shift=x.mean - centroid)
    return (*stages, last), {**statistics, "centroid": centroid}


def _through(stages: Sequence[Stage], texts: Source, *, covariance: bool = False) -> Moments:
    def through(unit: Array, first: int) -> Array:
        return apply_stages(stages, unit, first)

    return moments_of(texts, name="texts", covariance=covariance, through=through)


def _method(fit: Callable[..., Any], about: str, *, needs_covariance: bool = False) -> Method:
    return Method(fit=fit, about=about, needs_covariance=needs_covariance)


METHODS = {
    "realign": _method(_realign, "mean, scalar trace, centroid after the projection (section 3.4)"),
    "anchor_trace": _method(_anchor_trace, "ReAlign without the centroid step"),
    "mean_shift": _method(_mean_shift, "ReAlign's anchor step alone, as in Unicorn (arXiv 2503.22655)"),
    "c3": _method(_c3, "mean shift and noise, as in Connect, Collapse, Corrupt; images stay as they are"),
    "whiten": _method(_whiten, "whiten and colour: mean and full covariance (CORAL)", needs_covariance=True),
    "whiten_centroid": _method(_whiten_centroid, "whitening with ReAlign's centroid step", needs_covariance=True),
    "blockwise": _method(_blockwise, "covariance per block of U and V (the paper's appendix F)", needs_covariance=True),
    "none": _method(_none, "texts as they are"),
}
"""Every method by its name."""
