"""From noise to samples along a schedule, and the error of doing so in few steps."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor

from askesis.diffusion.fields import Denoiser, velocity
from askesis.diffusion.schedules import DiffusionError, check_sigmas, make_schedule

__all__ = ["Solver", "flow_path", "reference", "root_mean_square_error", "sample", "step"]


class Solver(StrEnum):
    """How a step is made."""

    EULER = "euler"
    """One evaluation per step."""
    HEUN = "heun"
    """Two evaluations per step but one for the last, which ends at 0 (Karras et al. 2022, algorithm 1, no churn)."""

    def evaluations(self, num_steps: int) -> int:
        """Calls of the denoiser for ``num_steps`` steps."""
        return num_steps if self is Solver.EULER else 2 * num_steps - 1


def sample(denoiser: Denoiser, noise_BR: Tensor, sigmas: Sequence[float], solver: Solver = Solver.EULER) -> Tensor:
    """Integrate the flow from ``noise_BR`` along ``sigmas`` (K + 1 falling levels, the last one 0).

    Args:
        denoiser: the model.
        noise_BR: samples at level ``sigmas[0]``.
        sigmas: the schedule's levels.
        solver: Euler or Heun.

    Raises:
        DiffusionError: the levels are no schedule, or a sample is not finite.
    """
    return flow_path(denoiser, noise_BR, sigmas, solver)[-1]


@torch.no_grad()
def flow_path(
    denoiser: Denoiser, noise_BR: Tensor, sigmas: Sequence[float], solver: Solver = Solver.EULER
) -> list[Tensor]:
    """The samples at each of the K + 1 levels; see :func:`sample`."""
    check_sigmas(sigmas, where="sampling")
    x_BR = noise_BR
    path = [x_BR]
    for high, low in pairwise(sigmas):
        x_BR = step(denoiser, x_BR, high, low, solver)
        path.append(x_BR)
    if not bool(x_BR.isfinite().all()):
        raise DiffusionError(
            "sampling did not stay finite",
            got=f"{int((~x_BR.isfinite()).flatten(1).any(1).sum())} of {len(x_BR)} samples",
            expected="finite noise and a denoiser that gives finite values",
        )
    return path


def step(denoiser: Denoiser, x_BR: Tensor, high: float, low: float, solver: Solver) -> Tensor:
    """One step from level ``high`` to level ``low``."""
    slope_BR = velocity(denoiser, x_BR, _level(x_BR, high))
    end_BR = x_BR + (high - low) * slope_BR
    if solver is Solver.HEUN and low > 0:
        slope_BR = (slope_BR + velocity(denoiser, end_BR, _level(x_BR, low))) / 2
        end_BR = x_BR + (high - low) * slope_BR
    return end_BR


def reference(
    denoiser: Denoiser, noise_BR: Tensor, *, sigma_max: float, sigma_min: float, num_steps: int = 400
) -> Tensor:
    """What an exact sampler would give for the same noise: Heun with many EDM steps."""
    fine = make_schedule("edm", num_steps, sigma_max=sigma_max, sigma_min=sigma_min)
    return sample(denoiser, noise_BR, fine.sigmas, Solver.HEUN)


def root_mean_square_error(x_BR: Tensor, reference_BR: Tensor) -> float:
    """The root of the mean over samples of the squared Euclidean distance."""
    return float((x_BR - reference_BR).flatten(1).square().sum(1).mean().sqrt())


def _level(x_BR: Tensor, sigma: float) -> Tensor:
    return torch.full((len(x_BR),), sigma, dtype=x_BR.dtype, device=x_BR.device)
