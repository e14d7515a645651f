"""Gaussian mixtures: data whose denoiser is known exactly, so that the error of a sampler can be measured.

Legend of suffixes: B samples, M components, D dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from askesis.diffusion.schedules import DiffusionError

__all__ = ["GaussianMixture", "circle_mixture", "random_mixture", "single_gaussian"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaussianMixture:
    """A mixture of isotropic Gaussians, and its exact denoiser.

    Args:
        means_MD: centres, float64.
        weight_M: probabilities of the components.
        std_M: standard deviations.

    Raises:
        DiffusionError: shapes that do not fit, weights that are no distribution, a standard deviation of 0 or less.
    """

    means_MD: Tensor
    weight_M: Tensor
    std_M: Tensor

    def __post_init__(self) -> None:
        num = len(self.means_MD)
        if self.means_MD.dim() != 2 or self.weight_M.shape != (num,) or self.std_M.shape != (num,):
            raise DiffusionError(
                "the parts of the mixture do not fit together",
                got=f"means {tuple(self.means_MD.shape)}, weights {tuple(self.weight_M.shape)}, "
                f"standard deviations {tuple(self.std_M.shape)}",
                expected="means [M, D], weights [M], standard deviations [M]",
            )
        positive = bool((self.weight_M > 0).all() and (self.std_M > 0).all() and self.means_MD.isfinite().all())
        if not positive or abs(float(self.weight_M.sum()) - 1) > 1e-6:
            raise DiffusionError(
                "this is no mixture",
                got=f"weights {self.weight_M.tolist()}, standard deviations {self.std_M.tolist()}",
                expected="finite means, weights above 0 that sum to 1, standard deviations above 0",
            )

    @property
    def dim(self) -> int:
        """D."""
        return self.means_MD.shape[1]

    def __call__(self, x_BD: Tensor, sigma_B: Tensor, /) -> Tensor:
        """E[x0 | x0 + sigma noise = x], ``[B, D]``. DiffusionError when the dimensions differ."""
        share_BM, keep_BM, _, _ = self._posterior(x_BD, sigma_B)
        kept_BM = share_BM * keep_BM
        return kept_BM.sum(1, keepdim=True) * x_BD + (share_BM - kept_BM) @ self.means_MD

    def derivative(self, x_BD: Tensor, sigma_B: Tensor, toward_BD: Tensor, /) -> Tensor:
        """The derivative of the denoiser along (``toward_BD``, -1), ``[B, D]``.

        The same as a forward-mode derivative of it, by hand: ten times faster, which learning a schedule feels.
        """
        share_BM, keep_BM, total_BM, square_BM = self._posterior(x_BD, sigma_B)
        total_rate_BM = -2 * sigma_B[:, None]
        keep_rate_BM = -keep_BM * total_rate_BM / total_BM
        square_rate_BM = 2 * ((toward_BD * x_BD).sum(1, keepdim=True) - toward_BD @ self.means_MD.T)
        logit_rate_BM = (total_rate_BM * (square_BM / total_BM - self.dim) - square_rate_BM) / (2 * total_BM)
        share_rate_BM = share_BM * (logit_rate_BM - (share_BM * logit_rate_BM).sum(1, keepdim=True))
        kept_rate_BM = share_rate_BM * keep_BM + share_BM * keep_rate_BM
        return (
            kept_rate_BM.sum(1, keepdim=True) * x_BD
            + (share_rate_BM - kept_rate_BM) @ self.means_MD
            + (share_BM * keep_BM).sum(1, keepdim=True) * toward_BD
        )

    def _posterior(self, x_BD: Tensor, sigma_B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities of the components, shrinkage towards x, variances, squared distances: ``[B, M]`` each."""
        if x_BD.dim() != 2 or x_BD.shape[1] != self.dim:
            raise DiffusionError(
                "samples do not have the mixture's dimension", got=tuple(x_BD.shape), expected=f"[B, {self.dim}]"
            )
        if x_BD.dtype != self.means_MD.dtype:
            raise DiffusionError(
                "samples have another type than the mixture", got=x_BD.dtype, expected=self.means_MD.dtype
            )
        variance_M = self.std_M**2
        total_BM = variance_M + sigma_B[:, None] ** 2
        # Expanded, so that no [B, M, D] tensor is made.
        square_BM = (x_BD**2).sum(1, keepdim=True) - 2 * x_BD @ self.means_MD.T + (self.means_MD**2).sum(1)
        logit_BM = self.weight_M.log() - 0.5 * (square_BM / total_BM + self.dim * total_BM.log())
        return logit_BM.softmax(1), variance_M / total_BM, total_BM, square_BM

    def draw(self, num: int, rng: np.random.Generator) -> Tensor:
        """``num`` clean samples ``[num, D]``."""
        chosen = torch.from_numpy(rng.choice(len(self.weight_M), size=num, p=self.weight_M.numpy()))
        noise = torch.from_numpy(rng.standard_normal((num, self.dim)))
        return self.means_MD[chosen] + self.std_M[chosen, None] * noise


def single_gaussian(dim: int, *, std: float = 0.5) -> GaussianMixture:
    """N(0, std^2 I): everything about it is known in closed form."""
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixture(means_MD=torch.zeros(1, dim, dtype=torch.float64), weight_M=one, std_M=std * one)


def circle_mixture(*, num_components: int = 8, radius: float = 4.0, std: float = 0.3) -> GaussianMixture:
    """Equal components on a circle in two dimensions."""
    angle = torch.arange(num_components, dtype=torch.float64) * (2 * math.pi / num_components)
    means_MD = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return _equal(means_MD, std)


def random_mixture(
    dim: int, rng: np.random.Generator, *, num_components: int = 8, radius: float = 4.0, std: float = 0.3
) -> GaussianMixture:
    """Equal components in random directions at distance ``radius``."""
    direction_MD = torch.from_numpy(rng.standard_normal((num_components, dim)))
    return _equal(radius * direction_MD / direction_MD.norm(dim=1, keepdim=True), std)


def _equal(means_MD: Tensor, std: float) -> GaussianMixture:
    num = len(means_MD)
    ones = torch.ones(num, dtype=torch.float64)
    return GaussianMixture(means_MD=means_MD, weight_M=ones / num, std_M=std * ones)
