"""The schedules that need no learning: equal shares of the difficulty, and the cheapest path through a table of costs.

The path of a sample does not depend on the clock, so the control problem of the paper has a closed form
(Cauchy-Schwarz; readers of the paper note it, the derivation is ours): |Q| theta^2 is constant, and the steps share the
integral of sqrt|Q| equally. It is the baseline that a learned schedule must come near to.

Legend of suffixes: N levels of noise, B samples, K steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from askesis.diffusion.fields import Denoiser, flow
from askesis.diffusion.sampling import Solver, flow_path, sample, step
from askesis.diffusion.schedules import DiffusionError, Schedule, make_schedule

__all__ = [
    "Difficulty",
    "cheapest_path",
    "gaussian_step_costs",
    "local_error_costs",
    "measure_difficulty",
    "oracle_schedule",
    "path_schedule",
    "surrogate_cost",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Difficulty:
    """Qbar(sigma): the mean over samples of |q| at each level of noise, in data per squared noise.

    Args:
        sigma_N: strictly rising, the first one 0.
        weight_N: above 0.

    Raises:
        DiffusionError: lengths that differ, levels that do not rise from 0, a weight that is not positive.
    """

    sigma_N: np.ndarray
    weight_N: np.ndarray

    def __post_init__(self) -> None:
        shapes = self.sigma_N.ndim == 1 and self.sigma_N.shape == self.weight_N.shape and len(self.sigma_N) >= 2
        if not shapes or self.sigma_N[0] != 0 or (np.diff(self.sigma_N) <= 0).any() or not (self.weight_N > 0).all():
            raise DiffusionError(
                "this is no difficulty over the levels of noise",
                got=f"{self.sigma_N.shape} levels from {self.sigma_N.flat[0]}, {self.weight_N.shape} weights",
                expected="levels that rise from 0, each with a weight above 0",
            )

    @property
    def total(self) -> float:
        """C, the integral of sqrt(Qbar) over sigma; the least cost in clock time 1 is C^2."""
        return float(self._cumulative()[-1])

    def at(self, sigma: np.ndarray) -> np.ndarray:
        """Qbar at other levels, linear in between."""
        return np.asarray(np.interp(sigma, self.sigma_N, self.weight_N))

    def split(self, num_steps: int) -> np.ndarray:
        """K + 1 falling levels with equal shares of the integral of sqrt(Qbar)."""
        cumulative_N = self._cumulative()
        shares = np.linspace(1, 0, num_steps + 1) * cumulative_N[-1]
        levels = np.asarray(np.interp(shares, cumulative_N, self.sigma_N))
        levels[0], levels[-1] = self.sigma_N[-1], 0.0
        return levels

    def _cumulative(self) -> np.ndarray:
        root_N = np.sqrt(self.weight_N)
        areas = (root_N[1:] + root_N[:-1]) / 2 * np.diff(self.sigma_N)
        return np.concatenate([[0.0], np.cumsum(areas)])


def measure_difficulty(
    denoiser: Denoiser, noise_BR: Tensor, *, sigma_max: float, sigma_min: float, num_levels: int = 200
) -> Difficulty:
    """Qbar along finely integrated flows (Heun on EDM's grid); below ``sigma_min`` it is taken to be constant."""
    levels = make_schedule("edm", num_levels, sigma_max=sigma_max, sigma_min=sigma_min).sigmas
    path = flow_path(denoiser, noise_BR, levels, Solver.HEUN)
    weights = []
    for x_BR, sigma in zip(path[:-1], levels[:-1], strict=True):
        curvature = flow(denoiser, x_BR, torch.full((len(x_BR),), sigma, dtype=x_BR.dtype)).curvature
        weights.append(float(curvature.flatten(1).norm(dim=1).mean()))
    rising = np.asarray(weights[::-1])
    return Difficulty(sigma_N=np.asarray(levels[::-1]), weight_N=np.concatenate([rising[:1], rising]))


def oracle_schedule(difficulty: Difficulty, num_steps: int) -> Schedule:
    """The optimum of the control problem for one schedule that all samples share: equal shares of sqrt(Qbar)."""
    sigmas = difficulty.split(num_steps)
    return Schedule(
        name="art_oracle",
        sigmas=tuple(map(float, sigmas)),
        provenance={"made_by": "art_oracle", "integral_sqrt_difficulty": difficulty.total},
    )


def surrogate_cost(sigmas: Sequence[float], difficulty: Difficulty) -> float:
    """The cost in clock time 1, the sum of K h^2 Q with Q the mean of both ends of a step; C^2 or more in the limit."""
    levels = np.asarray(sigmas)
    weight = difficulty.at(levels)
    return float(((weight[1:] + weight[:-1]) / 2 * np.diff(levels) ** 2).sum() * (len(levels) - 1))


def cheapest_path(cost_NN: np.ndarray, num_steps: int) -> list[int]:
    """The places of the K + 1 levels, from the first candidate to the last, whose steps cost least together.

    Args:
        cost_NN: ``cost_NN[i, j]`` for a step from candidate i to a later candidate j > i; the rest is not read.
        num_steps: K, at most N - 1.

    Raises:
        DiffusionError: more steps than candidates allow, or a cost that is not a number.
    """
    num = len(cost_NN)
    upper = np.where(np.triu(np.ones((num, num), dtype=bool), 1), cost_NN, np.inf)
    if np.isnan(upper).any():
        raise DiffusionError("a cost of a step is not a number", got=f"{int(np.isnan(upper).sum())} of them")
    if not 1 <= num_steps <= num - 1:
        raise DiffusionError("the path cannot have so many steps", got=num_steps, expected=f"1 to {num - 1}")
    best_N = np.full(num, np.inf)
    best_N[0] = 0.0
    came_from = []
    for _ in range(num_steps):
        total_NN = best_N[:, None] + upper
        came_from.append(total_NN.argmin(0))
        best_N = total_NN.min(0)
    place = num - 1
    path = [place]
    for earlier_N in reversed(came_from):
        place = int(earlier_N[place])
        path.append(place)
    return path[::-1]


def path_schedule(sigma_N: np.ndarray, cost_NN: np.ndarray, num_steps: int) -> Schedule:
    """:func:`cheapest_path` as a schedule; ``sigma_N`` are the candidates, falling to 0."""
    places = cheapest_path(cost_NN, num_steps)
    return Schedule(
        name="dp_oracle",
        sigmas=tuple(float(sigma_N[place]) for place in places),
        provenance={"made_by": "dynamic programming", "num_candidates": len(sigma_N)},
    )


def gaussian_step_costs(sigma_N: np.ndarray, *, std: float) -> np.ndarray:
    """-log of the factor by which each Euler step falls short of the exact flow of N(0, std^2 I).

    The factor is (s^2 + a b) / sqrt((s^2 + a^2)(s^2 + b^2)) <= 1, and W2 = s (1 - product): the sum of these costs is
    the global error itself, so the cheapest path is the best Euler schedule there is.
    """
    high, low = sigma_N[:, None], sigma_N[None, :]
    factor = (std**2 + high * low) / np.sqrt((std**2 + high**2) * (std**2 + low**2))
    return np.asarray(-np.log(np.minimum(factor, 1.0)))


@torch.no_grad()
def local_error_costs(
    denoiser: Denoiser, noise_BR: Tensor, sigma_N: np.ndarray, *, fine: int = 8, solver: Solver = Solver.EULER
) -> np.ndarray:
    """What one coarse step from each candidate to each later one costs at the end of the flow.

    From the exact path (``fine`` Heun steps between neighbours) one step of ``solver`` is made, then the flow is
    followed exactly to 0; the cost is the mean distance there. To first order these errors add up as vectors, so the
    sum of costs bounds the global error. O(N^2) steps of the fine flow: meant for analytic denoisers.
    """
    levels = _refined(sigma_N, fine)
    path = flow_path(denoiser, noise_BR, levels, Solver.HEUN)[::fine]
    num = len(sigma_N)
    cost_NN = np.zeros((num, num))
    for place in range(1, num):
        starts = range(place)
        ends = torch.cat([step(denoiser, path[i], float(sigma_N[i]), float(sigma_N[place]), solver) for i in starts])
        if place < num - 1:
            ends = sample(denoiser, ends, _refined(sigma_N[place:], fine), Solver.HEUN)
        gap = (ends - path[-1].repeat(place, *[1] * (noise_BR.dim() - 1))).flatten(1).norm(dim=1)
        cost_NN[:place, place] = gap.reshape(place, -1).mean(1).numpy()
    return cost_NN


def _refined(sigma_N: np.ndarray, fine: int) -> list[float]:
    """``fine`` steps in place of each: geometric between levels, linear on the way to 0."""
    levels: list[float] = []
    for high, low in pairwise(sigma_N):
        inner = np.geomspace(high, low, fine + 1) if low > 0 else np.linspace(high, 0, fine + 1)
        levels.extend(map(float, inner[:-1]))
    return [*levels, 0.0]
