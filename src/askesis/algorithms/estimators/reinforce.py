"""REINFORCE: the reward itself, minus a baseline that does not look at groups."""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.types import RewardBatch

__all__ = ["REINFORCE", "Baseline", "next_moving_reward", "reinforce"]

_DECAY = 0.9


class Baseline(StrEnum):
    """What REINFORCE subtracts from a reward."""

    ZERO = "zero"
    BATCH_MEAN = "batch_mean"
    MOVING_AVERAGE = "moving_average"
    """The average over the batches before this one (decay 0.9); the first batch uses its own mean."""


def reinforce(batch: RewardBatch, *, baseline: Baseline) -> Tensor:
    """REINFORCE with a constant baseline.

        A_b = R_b - b0

    Williams 1992. Equal rewards give 0 only with ``batch_mean``; group ids are not used. No input receives gradient.

    Args:
        batch: rewards; ``moving_reward`` is read by ``moving_average``.
        baseline: what b0 is.

    Returns:
        [B] advantages.
    """
    reward_B = batch.reward_B.detach()
    match baseline:
        case Baseline.ZERO:
            return reward_B.clone()
        case Baseline.MOVING_AVERAGE if batch.moving_reward is not None:
            return reward_B - batch.moving_reward
        case _:
            return (reward_B.double() - reward_B.double().mean()).to(reward_B.dtype)


def next_moving_reward(previous: float | None, reward_B: Tensor) -> float:
    """The moving average of batch means after this batch. Waits for the device."""
    mean = float(reward_B.detach().double().mean())
    return mean if previous is None else _DECAY * previous + (1 - _DECAY) * mean


REINFORCE = EstimatorStage(
    name="reinforce",
    function=reinforce,
    summary="reward minus a constant baseline",
    params=(Param(name="baseline", kind=Baseline, default=Baseline.ZERO, why="what is subtracted from every reward"),),
)
