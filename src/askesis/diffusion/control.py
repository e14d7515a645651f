"""The control problem of the paper and what is known of its solution, as functions.

Clock t in [0, 1], physical time psi = sigma_max - sigma, control theta = dpsi/dt (noise per clock time). A clock step
dt with speed theta costs |Q| theta^2 dt, the leading order of the Euler error; a multiplier gamma charges for speed so
that psi arrives at sigma_max at time 1. The paper's clock runs to T = sigma_max; ours is that divided by T, which
multiplies speeds and costs by T and changes no schedule.

Source: Huang, Tang, Zhou 2026, arXiv 2601.18681 and 2607.02137. Their full text was not available; equations follow a
secondary description and were derived again.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hamiltonian", "optimal_speed", "policy_std", "randomised_hamiltonian", "running_cost"]


def running_cost(difficulty: Tensor, speed: Tensor, gamma: float = 0.0) -> Tensor:
    """|Q| theta^2 + gamma theta, per clock time."""
    return difficulty * speed**2 + gamma * speed


def optimal_speed(adjoint: Tensor, difficulty: Tensor, gamma: float) -> Tensor:
    """theta* = (dV/dx . F + dV/dpsi - gamma) / (2 |Q|), the maximiser of the Hamilton-Jacobi-Bellman equation.

    It is also the mean of the best Gaussian policy. Args: ``adjoint``, dV/dx . F + dV/dpsi; all of one shape.
    """
    return (adjoint - gamma) / (2 * difficulty)


def hamiltonian(adjoint: Tensor, difficulty: Tensor, gamma: float) -> Tensor:
    """sup over theta of theta (adjoint - gamma) - |Q| theta^2 = (adjoint - gamma)^2 / (4 |Q|)."""
    return (adjoint - gamma) ** 2 / (4 * difficulty)


def randomised_hamiltonian(adjoint: Tensor, difficulty: Tensor, gamma: float, temperature: float) -> Tensor:
    """The same with the control drawn from N(theta*, lambda / |Q|): the randomness costs exactly lambda (theorem 1)."""
    return hamiltonian(adjoint, difficulty, gamma) - temperature


def policy_std(difficulty: Tensor, temperature: float) -> Tensor:
    """sqrt(lambda / |Q|), the standard deviation of the paper's Gaussian policy; it is not learned.

    At the optimum |Q| theta^2 = C^2, so the noise is the same share sqrt(lambda) / C of the speed everywhere.
    """
    return torch.sqrt(temperature / difficulty)
