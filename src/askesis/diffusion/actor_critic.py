"""Actor and critic of ART-RL: a Gaussian policy whose spread is given, and a value that ends where it must.

The paper's networks, step sizes and test processes were not available. What follows are the standard moment conditions
of continuous-time policy evaluation and policy gradient; features, sizes and scales are inferred.

Legend of suffixes: B samples, N rows, K steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from askesis.diffusion.control import policy_std
from askesis.diffusion.environment import State

__all__ = ["Actor", "Critic", "Features", "Rollout", "actor_loss", "advantages", "critic_loss", "make_network"]

LARGEST_NOISE = 0.2
"""Cap of the policy's standard deviation, as a share of its mean: lambda / |Q| explodes where |Q| vanishes."""


class Features:
    """What the networks see of a state: clock, log noise and noise, each in -1..1; with ``full``, also the sample.

    Of the sample it is the mean and the root mean square after division by sqrt(sigma^2 + sigma_data^2). The paper
    reports that what is learned depends on time alone.
    """

    def __init__(self, *, sigma_max: float, sigma_min: float, sigma_data: float, full: bool) -> None:
        self.sigma_max, self.sigma_min, self.sigma_data, self.full = sigma_max, sigma_min, sigma_data, full
        self.num = 5 if full else 3

    def __call__(self, state: State) -> Tensor:
        """``[B, num]``."""
        sigma_B = state.sigma_B.clamp_min(self.sigma_min)
        decades = math.log(self.sigma_max / self.sigma_min)
        columns = [
            torch.full_like(sigma_B, 2 * state.clock - 1),
            2 * (sigma_B / self.sigma_min).log() / decades - 1,
            2 * sigma_B / self.sigma_max - 1,
        ]
        if self.full:
            scaled_BR = state.x_BR.flatten(1) / (sigma_B**2 + self.sigma_data**2).sqrt()[:, None]
            columns += [scaled_BR.mean(1), scaled_BR.square().mean(1).sqrt()]
        return torch.stack(columns, 1)


def make_network(num_features: int, hidden: int, rng: np.random.Generator) -> nn.Sequential:
    """Two hidden layers of tanh in float64; the last layer is zero, so that the start is what the caller builds on."""
    layers: list[nn.Module] = []
    for wide, out in ((num_features, hidden), (hidden, hidden), (hidden, 1)):
        layer = nn.utils.skip_init(nn.Linear, wide, out, dtype=torch.float64)
        bound = 1 / math.sqrt(wide) if out > 1 else 0.0
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, (out, wide))))
            layer.bias.copy_(torch.from_numpy(rng.uniform(-bound, bound, out)))
        layers += [layer, nn.Tanh()] if out > 1 else [layer]
    return nn.Sequential(*layers)


class Actor:
    """The policy N(mu, lambda / |Q|), its spread capped at :data:`LARGEST_NOISE` of the mean.

    mu = base sigma exp(network): zero output gives the geometric grid (``base`` is K (1 - ratio of its levels)).
    """

    def __init__(self, features: Features, network: nn.Sequential, *, base: float) -> None:
        self.features, self.network, self.base = features, network, base

    def mean(self, features_NF: Tensor, sigma_N: Tensor) -> Tensor:
        """mu, ``[N]``, in noise per clock time."""
        scale_N = self.base * sigma_N.clamp_min(self.features.sigma_min)
        mean_N: Tensor = scale_N * self.network(features_NF)[:, 0].exp()
        return mean_N

    @torch.no_grad()
    def act(self, state: State, temperature: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Speeds drawn from the policy, at least 2 % of its mean, and its standard deviations; ``[B]`` each."""
        mean_B = self.mean(self.features(state), state.sigma_B)
        std_B = torch.minimum(policy_std(state.difficulty_B, temperature), LARGEST_NOISE * mean_B)
        drawn_B = mean_B + std_B * torch.from_numpy(rng.standard_normal(len(mean_B)))
        return torch.maximum(drawn_B, 0.02 * mean_B), std_B


class Critic:
    """J(t, state) = (1 - t) network + terminal, in units of C^2: at the end it is what the criterion says."""

    def __init__(self, network: nn.Sequential) -> None:
        self.network = network

    def value(self, features_NF: Tensor, clock_N: Tensor, terminal: float) -> Tensor:
        """J, ``[N]``."""
        value_N: Tensor = (1 - clock_N) * self.network(features_NF)[:, 0] + terminal
        return value_N


class Rollout(NamedTuple):
    """K steps of a batch, ``[K, B]`` unless said otherwise; what the actor did, not what the landing made of it."""

    features_KBF: Tensor
    sigma_KB: Tensor
    drawn_KB: Tensor
    std_KB: Tensor
    reward_KB: Tensor
    final_sigma_B: Tensor
    """Noise that is left at clock 1; below 0 after an overshoot."""


def advantages(reward_KB: Tensor, value_KB: Tensor, terminal: float, *, trace: float) -> Tensor:
    """Sums of the martingale's increments, ``[K, B]``.

    delta_k = J(t_{k+1}) - J(t_k) + reward_k has mean 0 when J is the policy's value; the result is the sum over later j
    of ``trace``^(j - k) delta_j. ``trace`` 0 is the increment alone, as the moment conditions are written; 1 is the
    whole rest of the trajectory.
    """
    after_KB = torch.cat([value_KB[1:], torch.full_like(value_KB[:1], terminal)])
    running_B = torch.zeros_like(value_KB[0])
    sums = []
    for delta_B in (after_KB - value_KB + reward_KB).flip(0):
        running_B = delta_B + trace * running_B
        sums.append(running_B)
    return torch.stack(sums[::-1])


def critic_loss(value_KB: Tensor, advantage_KB: Tensor) -> Tensor:
    """Its gradient is minus the mean of dJ/dparameters times advantage; the advantage carries no gradient."""
    return -(value_KB * advantage_KB.detach()).mean()


def actor_loss(mean_KB: Tensor, rollout: Rollout, advantage_KB: Tensor) -> Tensor:
    """Its gradient is minus the mean of d log pi/dparameters times advantage, with d log pi/dmu = (a - mu) / std^2."""
    score_KB = ((rollout.drawn_KB - mean_KB) / rollout.std_KB**2).detach()
    return -(score_KB * mean_KB * advantage_KB.detach()).mean()
