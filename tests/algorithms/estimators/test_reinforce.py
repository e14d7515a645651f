"""Baselines that do not look at groups."""

from __future__ import annotations

import pytest
import torch

from askesis.algorithms import RewardBatch
from askesis.algorithms.estimators.reinforce import Baseline, next_moving_reward, reinforce


def batch(moving_reward: float | None = None, dtype: torch.dtype = torch.float32) -> RewardBatch:
    reward = torch.tensor([1.0, 0.0, 0.0, 1.0, 3.0], dtype=dtype, requires_grad=True)
    return RewardBatch(reward_B=reward, group_B=torch.tensor([0, 0, 1, 1, 2]), moving_reward=moving_reward)


@pytest.mark.parametrize(
    ("baseline", "moving_reward", "expected"),
    [
        (Baseline.ZERO, 0.5, [1.0, 0.0, 0.0, 1.0, 3.0]),
        (Baseline.BATCH_MEAN, 0.5, [0.0, -1.0, -1.0, 0.0, 2.0]),
        (Baseline.MOVING_AVERAGE, 0.5, [0.5, -0.5, -0.5, 0.5, 2.5]),
        (Baseline.MOVING_AVERAGE, 0.0, [1.0, 0.0, 0.0, 1.0, 3.0]),
        (Baseline.MOVING_AVERAGE, None, [0.0, -1.0, -1.0, 0.0, 2.0]),
    ],
)
def test_hand_computed(baseline: Baseline, moving_reward: float | None, expected: list[float]) -> None:
    given = batch(moving_reward)
    advantage = reinforce(given, baseline=baseline)
    assert advantage.tolist() == expected and advantage.dtype == torch.float32
    assert not advantage.requires_grad
    assert advantage.data_ptr() != given.reward_B.data_ptr()


def test_the_moving_average_starts_at_the_first_mean_and_decays_by_nine_tenths() -> None:
    first = next_moving_reward(None, torch.tensor([1.0, 3.0]))
    second = next_moving_reward(first, torch.tensor([12.0]))
    assert (first, second) == (2.0, pytest.approx(0.9 * 2 + 0.1 * 12))
