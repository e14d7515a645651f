"""Theorem 1 on a problem with one state, and the algebra of the policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from askesis.diffusion.control import (
    hamiltonian,
    optimal_speed,
    policy_std,
    randomised_hamiltonian,
    running_cost,
)

GAMMA, ENERGY, TEMPERATURE = -0.7, 1.3, 0.25


def difficulty(psi: Tensor) -> Tensor:
    return torch.exp(-psi)


def value(clock: Tensor, psi: Tensor) -> Tensor:
    """gamma psi + 2 sqrt(E) integral of sqrt Q - E t, with Q = exp(-psi): solves the equation without noise."""
    return GAMMA * psi + 2 * ENERGY**0.5 * (2 - 2 * torch.exp(-psi / 2)) - ENERGY * clock


def slopes(noisy: bool) -> tuple[Tensor, Tensor, Tensor]:
    """dV/dt and dV/dpsi by central differences on a grid, and Q."""
    clock, psi = torch.meshgrid(
        torch.linspace(0.1, 0.9, 5, dtype=torch.float64), torch.linspace(0, 3, 7, dtype=torch.float64), indexing="ij"
    )

    def of(clock: Tensor, psi: Tensor) -> Tensor:
        return value(clock, psi) + (TEMPERATURE * clock if noisy else 0)

    h = 1e-4
    by_clock = (of(clock + h, psi) - of(clock - h, psi)) / (2 * h)
    by_psi = (of(clock, psi + h) - of(clock, psi - h)) / (2 * h)
    return by_clock, by_psi, difficulty(psi)


def test_the_value_solves_the_equation() -> None:
    by_clock, by_psi, q = slopes(noisy=False)
    assert (by_clock + hamiltonian(by_psi, q, GAMMA)).abs().max() < 1e-6


def test_adding_the_noise_s_cost_times_the_clock_solves_the_randomised_one() -> None:
    by_clock, by_psi, q = slopes(noisy=True)
    assert (by_clock + randomised_hamiltonian(by_psi, q, GAMMA, TEMPERATURE)).abs().max() < 1e-6
    without, _, _ = slopes(noisy=False)
    assert (by_clock - without).numpy() == pytest.approx(TEMPERATURE)


def test_the_best_speed_makes_the_cost_rate_constant() -> None:
    _, by_psi, q = slopes(noisy=False)
    speed = optimal_speed(by_psi, q, GAMMA)
    assert (q * speed**2).numpy() == pytest.approx(ENERGY, abs=1e-6)


@given(adjoint=st.floats(-3, 3), q=st.floats(0.05, 5), other=st.floats(-5, 5))
def test_no_speed_is_better_than_the_best(adjoint: float, q: float, other: float) -> None:
    slope, weight = torch.tensor(adjoint), torch.tensor(q)
    best = optimal_speed(slope, weight, GAMMA)

    def gain(speed: Tensor) -> float:
        return float(adjoint * speed - running_cost(weight, speed, GAMMA))

    assert gain(best) == pytest.approx(float(hamiltonian(slope, weight, GAMMA)), abs=1e-4)
    assert gain(torch.tensor(other)) <= gain(best) + 1e-4


@given(mean=st.floats(0.1, 10), q=st.floats(0.01, 10), temperature=st.floats(0.01, 4))
def test_the_noise_costs_its_temperature(mean: float, q: float, temperature: float) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    drawn = mean + float(policy_std(torch.tensor(q, dtype=torch.float64), temperature)) * nodes
    expected = float((weights * q * drawn**2).sum() / weights.sum())
    assert expected == pytest.approx(q * mean**2 + temperature)
