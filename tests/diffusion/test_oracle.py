"""The closed form of the control problem, and dynamic programming, against worked numbers and each other."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.diffusion.mixtures import circle_mixture, single_gaussian
from askesis.diffusion.oracle import (
    Difficulty,
    cheapest_path,
    gaussian_step_costs,
    local_error_costs,
    measure_difficulty,
    oracle_schedule,
    path_schedule,
    surrogate_cost,
)
from askesis.diffusion.sampling import Solver, reference, root_mean_square_error, sample
from askesis.diffusion.schedules import DiffusionError, arctan_schedule, make_schedule
from askesis.streams import generator
from diffusion.gaussian import TOP, S, difficulty, error

C = 1.742271


def of_weight(weight: object, low: float = 0.0, high: float = TOP, num: int = 40_000) -> Difficulty:
    sigma = np.concatenate([[0.0], np.geomspace(max(low, 1e-5), high, num)])
    return Difficulty(sigma_N=sigma, weight_N=np.asarray(weight(sigma)))  # type: ignore[operator]


def test_the_least_cost_and_grid_of_a_gaussian() -> None:
    found = difficulty()
    assert found.total == pytest.approx(C, abs=2e-6)
    assert found.total**2 / TOP == pytest.approx(0.0379438, abs=1e-7)
    expected = (80.0, 4.70473, 1.47976, 0.644602, 0.262212, 0.0)
    assert oracle_schedule(found, 5).sigmas == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("num_steps", "euler"), [(2, 0.29472), (5, 0.13041), (10, 0.06897), (20, 0.03561), (50, 0.01454), (100, 0.00732)]
)
def test_euler_errors_of_the_oracle(num_steps: int, euler: float) -> None:
    assert error(oracle_schedule(difficulty(), num_steps).sigmas) == pytest.approx(euler, abs=6e-6)


@pytest.mark.parametrize(("num_steps", "heun"), [(5, 0.0424), (10, 0.00294), (18, 0.00040)])
def test_heun_errors_of_the_oracle(num_steps: int, heun: float) -> None:
    assert error(oracle_schedule(difficulty(), num_steps).sigmas, heun=True) == pytest.approx(heun, rel=0.02)


def test_the_surrogate_is_not_the_global_error() -> None:
    oracle, angles = oracle_schedule(difficulty(), 20), arctan_schedule(20, data_std=S)
    assert error(angles.sigmas) < 0.85 * error(oracle.sigmas)
    assert error(angles.sigmas, heun=True) > error(oracle.sigmas, heun=True)


def test_surrogate_costs_of_twenty_steps() -> None:
    found = difficulty()
    costs = {name: surrogate_cost(make_schedule(name, 20).sigmas, found) / C**2 for name in ("dpm", "edm")}
    assert costs == {"dpm": pytest.approx(2.17, abs=0.02), "edm": pytest.approx(2.03, abs=0.01)}
    assert surrogate_cost(oracle_schedule(found, 20).sigmas, found) / C**2 == pytest.approx(1.20, abs=0.005)


def test_the_cost_rate_is_constant_along_the_oracle_and_nothing_is_cheaper() -> None:
    found = difficulty()
    levels = np.asarray(oracle_schedule(found, 2000).sigmas)
    # At the middle of a step; the first steps are coarse against the difficulty's own grid.
    rate = found.at((levels[1:] + levels[:-1]) / 2) * np.diff(levels) ** 2
    settled = rate[20:]
    assert settled.std() / settled.mean() < 1e-3
    least = C**2
    for name in ("dpm", "edm", "cosine", "uniform"):
        assert surrogate_cost(make_schedule(name, 2000).sigmas, found) > least
    assert surrogate_cost(levels.tolist(), found) == pytest.approx(least, rel=1e-3)


@given(factor=st.floats(1e-6, 1e6))
def test_the_scale_of_the_difficulty_does_not_matter(factor: float) -> None:
    found = difficulty(500)
    scaled = Difficulty(sigma_N=found.sigma_N, weight_N=factor * found.weight_N)
    assert scaled.split(7) == pytest.approx(found.split(7))


def test_what_hand_made_schedules_assume() -> None:
    uniform = of_weight(lambda sigma: np.ones_like(sigma)).split(8)
    assert uniform == pytest.approx(np.linspace(80, 0, 9), abs=1e-3)
    # A difficulty of sigma^-2 makes a geometric grid, sigma^(-2 (1 - 1/7)) EDM's, both down to sigma_min.
    for name, power in (("dpm", 2.0), ("edm", 2 * (1 - 1 / 7))):
        flat = of_weight(lambda sigma, p=power: np.maximum(sigma, 0.002) ** -p, low=0.002)
        cumulative = np.interp(0.002, flat.sigma_N, flat._cumulative())
        shares = np.linspace(flat.total, cumulative, 10)
        levels = np.interp(shares, flat._cumulative(), flat.sigma_N)
        assert levels == pytest.approx(np.asarray(make_schedule(name, 10).sigmas[:-1]), rel=2e-3)


def test_the_measured_difficulty_of_a_gaussian_is_the_closed_form() -> None:
    noise = 80 * torch.from_numpy(generator(0, "test", "difficulty").standard_normal((256, 8)))
    measured = measure_difficulty(single_gaussian(8), noise, sigma_max=80.0, sigma_min=0.002)
    assert oracle_schedule(measured, 5).sigmas[1:5] == pytest.approx((4.70473, 1.47976, 0.644602, 0.262212), rel=5e-3)


def test_the_cheapest_path_by_hand() -> None:
    cost = np.array([[0, 1, 5, 9], [0, 0, 1, 6], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=float)
    assert cheapest_path(cost, 1) == [0, 3]
    assert cheapest_path(cost, 2) == [0, 2, 3]
    assert cheapest_path(cost, 3) == [0, 1, 2, 3]


@given(seed=st.integers(0, 1000), num_steps=st.integers(1, 4))
def test_the_cheapest_path_is_the_cheapest_of_all(seed: int, num_steps: int) -> None:
    cost = generator(seed, "test", "costs").uniform(size=(6, 6))
    paths = [[0, *inner, 5] for inner in combinations(range(1, 5), num_steps - 1)]

    def total(path: list[int]) -> float:
        return sum(cost[i, j] for i, j in pairwise(path))

    assert total(cheapest_path(cost, num_steps)) == pytest.approx(min(map(total, paths)))


def test_dynamic_programming_finds_the_best_grid_of_a_gaussian() -> None:
    angle = np.arctan(TOP / S)
    candidates = S * np.tan(angle * np.linspace(1, 0, 121))
    candidates[0], candidates[-1] = TOP, 0.0
    costs = gaussian_step_costs(candidates, std=S)
    found = path_schedule(candidates, costs, 5)
    assert found.sigmas == pytest.approx(arctan_schedule(5, data_std=S).sigmas)
    places = cheapest_path(costs, 5)
    total = sum(costs[i, j] for i, j in pairwise(places))
    assert S * (1 - np.exp(-total)) == pytest.approx(error(found.sigmas))


def test_dynamic_programming_on_a_mixture_beats_the_hand_made() -> None:
    mixture = circle_mixture()
    noise = 80 * torch.from_numpy(generator(0, "test", "dp").standard_normal((256, 2)))
    candidates = np.concatenate([np.geomspace(80, 0.05, 29), [0.0]])
    costs = local_error_costs(mixture, noise[:48], candidates, fine=3)
    found = path_schedule(candidates, costs, 7)
    exact = reference(mixture, noise, sigma_max=80.0, sigma_min=0.002, num_steps=150)

    def reached(sigmas: tuple[float, ...]) -> float:
        return root_mean_square_error(sample(mixture, noise, sigmas, Solver.EULER), exact)

    best = min(reached(make_schedule(name, 7).sigmas) for name in ("edm", "dpm", "cosine"))
    assert reached(found.sigmas) < 0.7 * best


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(DiffusionError, match="expected: 1 to 2"):
        cheapest_path(np.zeros((3, 3)), 3)
    with pytest.raises(DiffusionError, match="not a number"):
        cheapest_path(np.full((3, 3), np.nan), 1)
    with pytest.raises(DiffusionError, match="no difficulty"):
        Difficulty(sigma_N=np.array([0.0, 1.0]), weight_N=np.array([1.0, 0.0]))
    with pytest.raises(DiffusionError, match="no difficulty"):
        Difficulty(sigma_N=np.array([0.5, 1.0]), weight_N=np.array([1.0, 1.0]))
