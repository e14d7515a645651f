"""Sampling as an environment: the state is a sample and its level of noise, the action is the speed of the clock.

Legend of suffixes: B samples, R the rest of a sample's dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from askesis.diffusion.control import running_cost
from askesis.diffusion.fields import Denoiser, flow
from askesis.diffusion.schedules import DiffusionError

__all__ = ["LARGEST_SHARE", "SamplingEnvironment", "State", "Transition"]

LARGEST_SHARE = 0.98
"""Of the noise that is left, what one step may take away where the last step is forced to land."""

_FLOOR = 1e-12


class State(NamedTuple):
    """Where a batch of samples is.

    ``clock`` is in [0, 1]; ``sigma_B`` is the noise that is left, below 0 after an overshoot; ``difficulty_B`` is |Q|.
    """

    clock: float
    x_BR: Tensor
    sigma_B: Tensor
    velocity_BR: Tensor
    difficulty_B: Tensor


class Transition(NamedTuple):
    """One step: the speed that was really taken, its reward (minus the cost), and where it led."""

    speed_B: Tensor
    reward_B: Tensor
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingEnvironment:
    """K Euler steps of clock time 1 / K from ``sigma_max`` to 0.

    Args:
        denoiser: the model.
        num_steps: K.
        sigma_max: noise at the start.
        sigma_min: the model is never asked below it; the level of a state is not clamped, so that an overshoot shows.
        landing: the last step goes to 0 whatever the action says, and no step before takes all of the noise. Without
            it, only the multiplier makes the samples arrive.
        both_ends: the cost of a step takes |Q| as the mean of its two ends. With the left end alone, which is what the
            paper has, a coarse clock pays nothing for jumping over a stiff stretch.
    """

    denoiser: Denoiser
    num_steps: int
    sigma_max: float
    sigma_min: float
    landing: bool = True
    both_ends: bool = True

    def __post_init__(self) -> None:
        if self.num_steps < 2:
            raise DiffusionError("a schedule is learned over at least 2 steps", got=self.num_steps)

    def reset(self, noise_BR: Tensor) -> State:
        """Begin with ``noise_BR``, samples at level ``sigma_max``."""
        sigma_B = torch.full((len(noise_BR),), self.sigma_max, dtype=noise_BR.dtype)
        return self._state(0.0, noise_BR, sigma_B)

    @torch.no_grad()
    def step(self, state: State, speed_B: Tensor, gamma: float = 0.0) -> Transition:
        """Go on at ``speed_B`` (noise per clock time) for one step."""
        num = self.num_steps
        taken_B = speed_B / num
        is_last = round(state.clock * num) == num - 1
        if self.landing:
            taken_B = state.sigma_B if is_last else torch.minimum(taken_B, LARGEST_SHARE * state.sigma_B)
        x_BR = state.x_BR + taken_B.reshape(-1, *[1] * (state.x_BR.dim() - 1)) * state.velocity_BR
        after = self._state(state.clock + 1 / num, x_BR, state.sigma_B - taken_B)
        difficulty_B = (state.difficulty_B + after.difficulty_B) / 2 if self.both_ends else state.difficulty_B
        speed_B = taken_B * num
        return Transition(speed_B, -running_cost(difficulty_B, speed_B, gamma) / num, after)

    def _state(self, clock: float, x_BR: Tensor, sigma_B: Tensor) -> State:
        velocity_BR, curvature_BR = flow(self.denoiser, x_BR, sigma_B.clamp_min(self.sigma_min))
        difficulty_B = curvature_BR.flatten(1).norm(dim=1).clamp_min(_FLOOR)
        return State(clock, x_BR, sigma_B, velocity_BR, difficulty_B)
