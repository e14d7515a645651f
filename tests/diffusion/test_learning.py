"""ART-RL on one Gaussian, where every schedule's error is known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from askesis.diffusion.learning import Learned, LearnerSection, Progress, learn_schedule
from askesis.diffusion.mixtures import circle_mixture, single_gaussian
from askesis.diffusion.oracle import oracle_schedule, surrogate_cost
from askesis.diffusion.schedules import DiffusionError, make_schedule
from askesis.errors import RecipeError
from askesis.recipe.load import resolve
from diffusion.gaussian import difficulty, error


@pytest.fixture(scope="module")
def learned() -> Learned:
    settings = LearnerSection(iterations=80, batch=64, actor_lr=2e-2, seed=7)
    return learn_schedule(single_gaussian(8), settings, shape=(8,))


def test_the_learned_schedule_beats_the_hand_made(learned: Learned) -> None:
    best = min(error(make_schedule(name, 20).sigmas) for name in ("edm", "dpm"))
    assert error(learned.schedule.sigmas) < 0.9 * best


def test_its_cost_is_near_the_closed_form(learned: Learned) -> None:
    found = difficulty()
    oracle = surrogate_cost(oracle_schedule(found, 20).sigmas, found)
    assert surrogate_cost(learned.schedule.sigmas, found) < 1.25 * oracle


@pytest.mark.parametrize("num_steps", [5, 10, 40])
def test_it_carries_over_to_other_numbers_of_steps(learned: Learned, num_steps: int) -> None:
    best = min(error(make_schedule(name, num_steps).sigmas) for name in ("edm", "dpm"))
    assert error(learned.schedule.resampled(num_steps).sigmas) < best


def test_learning_is_written_down(learned: Learned) -> None:
    assert [progress.iteration for progress in learned.history] == list(range(80))
    assert sum(p.cost for p in learned.history[-10:]) < 0.75 * sum(p.cost for p in learned.history[:3]) / 3 * 10
    assert learned.schedule.provenance["learner"]["seed"] == 7 and learned.cpu_s > 0
    # What sees time alone gives every sample the same speed.
    assert learned.spread.largest < 1e-12 and learned.gamma == 0


def quick(**options: object) -> Learned:
    settings = LearnerSection.model_validate({"iterations": 3, "batch": 8, "num_steps": 6, **options})
    return learn_schedule(circle_mixture(), settings, shape=(2,))


def test_the_same_seed_gives_the_same_schedule_and_another_does_not() -> None:
    assert quick(seed=1).schedule == quick(seed=1).schedule
    assert quick(seed=1).schedule.sigmas != quick(seed=2).schedule.sigmas


def test_every_iteration_is_told() -> None:
    told: list[Progress] = []
    settings = LearnerSection(iterations=3, batch=8, num_steps=6)
    found = learn_schedule(circle_mixture(), settings, shape=(2,), notify=told.append)
    assert tuple(told) == found.history


def test_what_sees_the_sample_may_differ_between_samples() -> None:
    assert 0.001 < quick(state="full", iterations=10).spread.mean < 0.5


def with_multiplier(cost: str) -> Learned:
    settings = LearnerSection.model_validate(
        {
            "budget": "multiplier",
            "cost": cost,
            "num_steps": 10,
            "iterations": 50,
            "batch": 32,
            "sigma_max": 20.0,
            "seed": 3,
        }
    )
    return learn_schedule(single_gaussian(4), settings, shape=(4,))


def test_the_multiplier_brings_the_clock_to_its_end() -> None:
    found = with_multiplier("both_ends")
    assert found.gamma < 0
    assert abs(sum(p.overshoot for p in found.history[-10:]) / 10) < 0.02 * 20
    assert found.schedule.sigmas[0] == 20.0 and found.schedule.num_steps == 10


def test_a_clock_that_never_arrives_is_an_error_and_no_schedule() -> None:
    # On a coarse clock the left end of a step prices a jump over all that is difficult at nothing.
    with pytest.raises(DiffusionError, match=r"did not arrive(.|\n)*budget=landing"):
        with_multiplier("left_end")


def test_credit_by_increments_alone_runs() -> None:
    assert quick(trace=0.0).schedule.num_steps == 6


def test_a_model_that_breaks_is_named() -> None:
    def broken(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.where(sigma[:, None] < 30, x * float("nan"), 0 * x)

    settings = LearnerSection(iterations=2, batch=4, num_steps=5)
    with pytest.raises(DiffusionError, match="the flow is not finite"):
        learn_schedule(broken, settings, shape=(2,))


def test_a_wrong_range_names_both_keys() -> None:
    with pytest.raises(RecipeError, match=r"sigma_min = 2.0 must be below sigma_max = 1.0"):
        resolve(LearnerSection, None, ["sigma_min=2.0", "sigma_max=1.0"])
