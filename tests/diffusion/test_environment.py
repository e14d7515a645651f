"""Rollouts of the clock: costs by hand, landing, overshoot."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.diffusion.environment import LARGEST_SHARE, SamplingEnvironment
from askesis.diffusion.mixtures import single_gaussian
from askesis.diffusion.schedules import DiffusionError

S2 = 0.25


def make(num_steps: int = 2, **options: bool) -> SamplingEnvironment:
    return SamplingEnvironment(
        denoiser=single_gaussian(1), num_steps=num_steps, sigma_max=4.0, sigma_min=0.01, **options
    )


def bend(x: float, sigma: float) -> float:
    return abs(S2 * x / (S2 + sigma * sigma) ** 2)


@pytest.mark.parametrize("both_ends", [True, False])
def test_a_rollout_by_hand(both_ends: bool) -> None:
    env = make(both_ends=both_ends)
    state = env.reset(torch.tensor([[4.0]], dtype=torch.float64))
    assert float(state.difficulty_B) == pytest.approx(bend(4.0, 4.0))
    # Speed 6 for half of the clock: sigma falls by 3.
    first = env.step(state, torch.tensor([6.0], dtype=torch.float64), gamma=-0.5)
    x = 4.0 - 3 * 4.0 * 4.0 / (S2 + 16)
    assert float(first.state.x_BR) == pytest.approx(x)
    assert float(first.state.sigma_B) == pytest.approx(1.0)
    q = (bend(4.0, 4.0) + bend(x, 1.0)) / 2 if both_ends else bend(4.0, 4.0)
    assert float(first.reward_B) == pytest.approx(-(q * 36 - 0.5 * 6) / 2)
    last = env.step(first.state, torch.tensor([0.1], dtype=torch.float64))
    assert float(last.speed_B) == pytest.approx(2.0)  # it has to land
    assert float(last.state.sigma_B) == 0
    assert last.state.clock == pytest.approx(1.0)
    x -= 1.0 * x / (S2 + 1)
    assert float(last.state.x_BR) == pytest.approx(x)
    # At 0 the model is asked at sigma_min.
    q = (first.state.difficulty_B + bend(x, 0.01)) / 2 if both_ends else first.state.difficulty_B
    assert float(last.reward_B) == pytest.approx(-float(q) * 4 / 2)


def test_with_landing_no_step_before_the_last_takes_everything() -> None:
    env = make(3)
    state = env.reset(torch.ones(2, 1, dtype=torch.float64))
    after = env.step(state, torch.full((2,), 1e9, dtype=torch.float64)).state
    assert after.sigma_B.tolist() == pytest.approx([4.0 * (1 - LARGEST_SHARE)] * 2)


def test_without_landing_an_overshoot_shows() -> None:
    env = make(2, landing=False)
    state = env.reset(torch.ones(1, 1, dtype=torch.float64))
    for speed in (6.0, 4.0):
        state = env.step(state, torch.tensor([speed], dtype=torch.float64)).state
    assert float(state.sigma_B) == pytest.approx(-1.0)
    assert bool(state.difficulty_B.isfinite().all())


@given(speeds=st.lists(st.floats(0.01, 50), min_size=4, max_size=4))
def test_with_landing_every_rollout_takes_exactly_sigma_max(speeds: list[float]) -> None:
    env = make(4)
    state = env.reset(torch.ones(1, 1, dtype=torch.float64))
    taken = 0.0
    for speed in speeds:
        transition = env.step(state, torch.tensor([speed], dtype=torch.float64))
        taken += float(transition.speed_B) / 4
        state = transition.state
    assert taken == pytest.approx(4.0)
    assert float(state.sigma_B) == 0


def test_one_step_is_too_few() -> None:
    with pytest.raises(DiffusionError, match="at least 2 steps"):
        make(1)
