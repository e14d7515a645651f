"""Advantages relative to the other answers to the same prompt: RLOO, GRPO, Dr.GRPO.

All three take finite rewards, groups of any size and ids in any order. A group of two or more whose rewards are all
equal gets exactly 0. They compute in float64 and return the dtype of the rewards. No input receives gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.estimators.groups import GroupStatistics, group_statistics, sum_by
from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.types import RewardBatch

__all__ = ["DR_GRPO", "GRPO", "RLOO", "dr_grpo", "grpo", "rloo"]


def rloo(batch: RewardBatch) -> Tensor:
    """REINFORCE leave-one-out: the baseline of an answer is the mean of the others in its group.

        A_i = R_i - mean of R_j over j != i = n / (n - 1) * (R_i - mean R)

    Ahmadian et al. 2024, arXiv 2402.14740. A group of one has no others: A = R.

    Returns:
        [B] advantages.
    """
    groups = group_statistics(batch.reward_B, batch.group_B)
    size_B = groups.size_G[groups.row_to_group_B].to(torch.float64)
    advantage_B = size_B / (size_B - 1).clamp(min=1) * _deviation(batch.reward_B, groups)
    return torch.where(size_B == 1, batch.reward_B, advantage_B).to(batch.reward_B.dtype).detach()


def grpo(batch: RewardBatch, *, advantage_eps: float) -> Tensor:
    """Group relative policy optimisation: standard scores within the group.

        A_i = (R_i - mean R) / (std R + eps)

    Shao et al. 2024, arXiv 2402.03300. The standard deviation is that of a sample (divisor n - 1), as in verl and TRL.
    A group of one has none: A = R, as in verl. Rewards that differ only by scale and shift give the same advantages (up
    to eps), so a tiny difference within a group of failures becomes an advantage of size one.

    Args:
        batch: rewards and groups.
        advantage_eps: added to the standard deviation.

    Returns:
        [B] advantages.
    """
    groups = group_statistics(batch.reward_B, batch.group_B)
    deviation_B = _deviation(batch.reward_B, groups)
    square_G = sum_by(deviation_B.square(), groups.row_to_group_B, len(groups.size_G))
    std_G = (square_G / (groups.size_G - 1).clamp(min=1)).sqrt() + advantage_eps
    # A constant group has deviation 0; dividing it by 1 keeps 0 when eps is 0 too.
    std_B = torch.where(groups.is_constant_G, 1.0, std_G)[groups.row_to_group_B]
    is_single_B = groups.size_G[groups.row_to_group_B] == 1
    return torch.where(is_single_B, batch.reward_B, deviation_B / std_B).to(batch.reward_B.dtype).detach()


def dr_grpo(batch: RewardBatch) -> Tensor:
    """GRPO done right: no division by the standard deviation, which favours very easy and very hard questions.

        A_i = R_i - mean R

    Liu et al. 2025, arXiv 2503.20783. A group of one gets what the formula says: A = 0.

    Returns:
        [B] advantages.
    """
    groups = group_statistics(batch.reward_B, batch.group_B)
    return _deviation(batch.reward_B, groups).to(batch.reward_B.dtype).detach()


def _deviation(reward_B: Tensor, groups: GroupStatistics) -> Tensor:
    """[B] float64: reward minus the mean of its group, exactly 0 in a constant group."""
    deviation_B = reward_B.to(torch.float64) - groups.mean_G[groups.row_to_group_B]
    return torch.where(groups.is_constant_G[groups.row_to_group_B], 0.0, deviation_B)


RLOO = EstimatorStage(
    name="rloo", function=rloo, summary="reward minus the mean of the group's others", is_relative=True
)
GRPO = EstimatorStage(
    name="grpo",
    function=grpo,
    summary="(reward - group mean) / (group standard deviation + advantage_eps)",
    is_relative=True,
    params=(
        Param(name="advantage_eps", kind=float, default=1e-6, minimum=0, why="added to the group's standard deviation"),
    ),
)
DR_GRPO = EstimatorStage(name="dr_grpo", function=dr_grpo, summary="reward minus the group mean", is_relative=True)
