"""Euler and Heun against closed forms and worked numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from askesis.diffusion.mixtures import circle_mixture, single_gaussian
from askesis.diffusion.sampling import Solver, flow_path, reference, root_mean_square_error, sample, step
from askesis.diffusion.schedules import DiffusionError, Schedule, make_schedule
from askesis.streams import generator
from diffusion.gaussian import error

CIRCLE = {
    (Solver.EULER, 5): (3.51, 0.934, 1.103, 1.265),
    (Solver.EULER, 10): (2.95, 0.371, 0.321, 0.596),
    (Solver.EULER, 20): (2.05, 0.167, 0.147, 0.255),
    (Solver.HEUN, 5): (11.5, 5.28, 2.61, 29.6),
    (Solver.HEUN, 10): (4.05, 0.370, 0.252, 1.45),
}


@pytest.mark.parametrize("solver", list(Solver))
def test_a_gaussian_is_scaled_by_the_product_of_its_steps(solver: Solver) -> None:
    schedule = make_schedule("edm", 7)
    x = torch.tensor([[math.sqrt(0.25 + 6400), 0.0]], dtype=torch.float64)  # one standard deviation
    end = sample(single_gaussian(2), x, schedule.sigmas, solver)
    assert abs(float(end[0, 0]) - 0.5) == pytest.approx(error(schedule.sigmas, heun=solver is Solver.HEUN))
    assert float(end[0, 1]) == 0


@pytest.fixture(scope="module")
def circle() -> tuple[torch.Tensor, torch.Tensor]:
    noise = 80 * torch.from_numpy(generator(0, "test", "circle").standard_normal((1024, 2)))
    return noise, reference(circle_mixture(), noise, sigma_max=80.0, sigma_min=0.002)


@pytest.mark.parametrize(("solver", "num_steps"), CIRCLE)
def test_worked_errors_of_eight_components(
    circle: tuple[torch.Tensor, torch.Tensor], solver: Solver, num_steps: int
) -> None:
    noise, exact = circle
    found = [
        root_mean_square_error(sample(circle_mixture(), noise, make_schedule(name, num_steps).sigmas, solver), exact)
        for name in ("uniform", "dpm", "edm", "cosine")
    ]
    # The worked numbers have other noise, and three digits.
    assert found == pytest.approx(CIRCLE[solver, num_steps], rel=0.1)


def test_halving_steps_halves_euler_s_error_and_quarters_heun_s() -> None:
    start = torch.tensor([[math.sqrt(0.25 + 6400)]], dtype=torch.float64)
    for solver, ratio in ((Solver.EULER, 2), (Solver.HEUN, 4)):
        errors = []
        for num_steps in (100, 200):
            x = start
            for high, low in pairwise(np.geomspace(80, 0.5, num_steps + 1)):
                x = step(single_gaussian(1), x, float(high), float(low), solver)
            errors.append(abs(float(x) - math.sqrt(0.5)))
        assert errors[0] / errors[1] == pytest.approx(ratio, rel=0.05)


def test_evaluations() -> None:
    calls = 0

    def counted(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return x / (1 + sigma[:, None] ** 2)

    for solver, expected in ((Solver.EULER, 6), (Solver.HEUN, 11)):
        calls = 0
        sample(counted, torch.ones(1, 1), make_schedule("edm", 6).sigmas, solver)
        assert calls == solver.evaluations(6) == expected


def test_the_path_has_every_level() -> None:
    path = flow_path(single_gaussian(1), torch.ones(3, 1, dtype=torch.float64), (2.0, 1.0, 0.0))
    assert [float(x[0]) for x in path] == pytest.approx([1.0, 1 - 2 / 4.25, (1 - 2 / 4.25) * (1 - 1 / 1.25)])


def test_what_cannot_be_sampled_is_named() -> None:
    with pytest.raises(DiffusionError, match="1 of 2 samples"):
        sample(single_gaussian(1), torch.tensor([[1.0], [math.nan]], dtype=torch.float64), (1.0, 0.0))
    with pytest.raises(DiffusionError, match="do not run down"):
        sample(single_gaussian(1), torch.ones(1, 1), (1.0, 2.0))
    with pytest.raises(DiffusionError, match="another type"):
        sample(single_gaussian(1), torch.ones(1, 1), (1.0, 0.0))
    assert Schedule(name="one", sigmas=(1.0, 0.0)).num_steps == 1
