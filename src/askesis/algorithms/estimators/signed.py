"""Rewarding right answers and punishing wrong ones, without looking at the group: PSR, NSR, W-REINFORCE.

Zhu et al. 2025, "The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning", arXiv 2506.01347.

    L = positive_weight * L_PSR + negative_weight * L_NSR
    A(right) = positive_weight,  A(wrong) = -negative_weight

A trajectory is right when its reward is at least ``success_at``; rewards of 0 and 1, and of -1 and 1, give the same. A
group of only wrong answers teaches, unlike in GRPO. No input receives gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.types import RewardBatch

__all__ = ["NSR", "PSR", "SUCCESS_AT", "W_REINFORCE", "nsr", "psr", "signed", "w_reinforce"]

SUCCESS_AT = Param(name="success_at", kind=float, default=1.0, why="the reward from which an answer counts as right")


def signed(batch: RewardBatch, *, success_at: float, positive_weight: float, negative_weight: float) -> Tensor:
    """[B] ``positive_weight`` where the reward is at least ``success_at``, ``-negative_weight`` elsewhere."""
    is_right_B = batch.reward_B >= success_at
    # 0.0 - 0.0 is 0.0: no advantage has no sign.
    return torch.full_like(batch.reward_B, 0.0 - negative_weight).masked_fill(is_right_B, positive_weight).detach()


def psr(batch: RewardBatch, *, success_at: float) -> Tensor:
    """Positive sample reinforcement: A = 1 for a right answer, 0 for a wrong one.

    Returns:
        [B] advantages.
    """
    return signed(batch, success_at=success_at, positive_weight=1.0, negative_weight=0.0)


def nsr(batch: RewardBatch, *, success_at: float) -> Tensor:
    """Negative sample reinforcement: A = 0 for a right answer, -1 for a wrong one.

    Returns:
        [B] advantages.
    """
    return signed(batch, success_at=success_at, positive_weight=0.0, negative_weight=1.0)


def w_reinforce(batch: RewardBatch, *, success_at: float, positive_weight: float) -> Tensor:
    """Weighted REINFORCE: A = positive_weight for a right answer, -1 for a wrong one.

    ``positive_weight`` 1 is REINFORCE with rewards of 1 and -1, 0 is NSR.

    Returns:
        [B] advantages.
    """
    return signed(batch, success_at=success_at, positive_weight=positive_weight, negative_weight=1.0)


PSR = EstimatorStage(
    name="psr",
    function=psr,
    summary="1 for a right answer, 0 for a wrong one",
    params=(SUCCESS_AT,),
    judges_success=True,
    penalises=False,
)
NSR = EstimatorStage(
    name="nsr",
    function=nsr,
    summary="0 for a right answer, -1 for a wrong one",
    params=(SUCCESS_AT,),
    judges_success=True,
)
W_REINFORCE = EstimatorStage(
    name="w_reinforce",
    function=w_reinforce,
    summary="positive_weight for a right answer, -1 for a wrong one",
    params=(
        SUCCESS_AT,
        Param(name="positive_weight", kind=float, default=0.1, minimum=0, why="the advantage of a right answer"),
    ),
    judges_success=True,
)
