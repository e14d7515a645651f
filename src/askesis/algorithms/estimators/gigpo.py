"""GiGPO: group-in-group advantages, of whole episodes and of turns that began in the same state."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.estimators.groups import group_statistics, standardise
from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.turns import Responses, responses, spread_evenly
from askesis.algorithms.types import RewardBatch, TokenBatch

__all__ = ["GIGPO", "Normaliser", "Statistics", "gigpo", "gigpo_spread", "step_returns"]


class Normaliser(StrEnum):
    """F, by which a deviation is divided."""

    STD = "std"
    """The standard deviation (``mean_std_norm``, ALFWorld)."""
    NONE = "none"
    """1 (``mean_norm``, WebShop): tiny differences within a group of failures stay tiny."""


class Statistics(StrEnum):
    """Over what the mean and the standard deviation of the episode part are taken."""

    TRAJECTORY = "trajectory"
    TURN = "turn"
    """Every turn counts, so long trajectories weigh more; the published numbers are of this kind."""


def gigpo(
    batch: RewardBatch,
    *,
    normaliser: Normaliser,
    statistics: Statistics,
    discount: float,
    step_weight: float,
    advantage_eps: float,
) -> Tensor:
    """The episode part of GiGPO.

        A^E_i = (R_i - mean R) / F(R),   mean and F over the group

    Feng et al. 2025, arXiv 2505.10978, section 4.1. A group of one has no deviation: A = R, as in GRPO; equal rewards
    give exactly 0. ``discount`` and ``step_weight`` belong to :func:`gigpo_spread`. No input receives gradient.

    Returns:
        [B] advantages of whole trajectories.
    """
    count_B = torch.ones_like(batch.group_B)
    if statistics is Statistics.TURN:
        count_B = required(batch.num_turns_B, "num_turns_B", "estimator 'gigpo'")
    advantage_B = standardise(batch.reward_B, batch.group_B, count_B, eps=_eps(normaliser, advantage_eps))
    groups = group_statistics(batch.reward_B, batch.group_B)
    is_single_B = groups.size_G[groups.row_to_group_B] == 1
    return torch.where(is_single_B, batch.reward_B, advantage_B.to(batch.reward_B.dtype)).detach()


def gigpo_spread(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    normaliser: Normaliser,
    statistics: Statistics,
    discount: float,
    step_weight: float,
    advantage_eps: float,
) -> Tensor:
    """Both parts of GiGPO.

        A_it = A^E_i + step_weight * A^S_it
        A^S_it = (R^S_it - mean R^S) / F(R^S),   mean and F over the turns of the group with the same anchor state
        R^S_it = sum over k >= t of discount^(k - t) * r_ik

    Feng et al. 2025, arXiv 2505.10978, sections 4.2 and 4.3. A turn whose state no other turn of its group began in has
    A^S = 0; a state that a trajectory comes back to counts each time. A shaping or a KL penalty in the reward changes
    the episode part only.

    Returns:
        [B, T] advantages, the same at all tokens of a turn.
    """
    anchor_BT = required(tokens.anchor_BT, "anchor_BT", "estimator 'gigpo'")
    step_reward_BT = required(tokens.step_reward_BT, "step_reward_BT", "estimator 'gigpo'")
    table = responses(tokens)
    return_R = step_returns(table, step_reward_BT[tokens.mask_BT][table.first_R], discount)
    anchor_R = anchor_BT[tokens.mask_BT][table.first_R]
    group_R = batch.group_B.to(anchor_R.device)[table.sequence_R]
    pairs_R2 = torch.stack([group_R, anchor_R], dim=1)
    _, place_R = torch.unique(pairs_R2, dim=0, return_inverse=True)
    step_R = standardise(return_R, place_R, torch.ones_like(place_R), eps=_eps(normaliser, advantage_eps))
    step_N = step_R[table.token_to_response_N].to(advantage_B.dtype)
    advantage_BT = spread_evenly(advantage_B, tokens)
    return advantage_BT.masked_scatter(tokens.mask_BT, advantage_BT[tokens.mask_BT] + step_weight * step_N)


def step_returns(table: Responses, reward_R: Tensor, discount: float) -> Tensor:
    """[R] float64: the discounted sum of rewards from each turn to the end of its trajectory."""
    returns: list[float] = []
    following, previous = 0.0, -1
    # Responses come in the order of (sequence, turn), so each trajectory is one run of them.
    for sequence, reward in zip(reversed(table.sequence_R.tolist()), reversed(reward_R.tolist()), strict=True):
        following = reward + (discount * following if sequence == previous else 0.0)
        previous = sequence
        returns.append(following)
    return torch.tensor(returns[::-1], dtype=torch.float64, device=reward_R.device)


def _eps(normaliser: Normaliser, advantage_eps: float) -> float | None:
    return advantage_eps if normaliser is Normaliser.STD else None


GIGPO = EstimatorStage(
    name="gigpo",
    function=gigpo,
    spread=gigpo_spread,
    summary="episode advantage plus step_weight times the advantage among turns from the same state",
    needs=frozenset({"num_turns_B"}),
    credit_needs=frozenset({"anchor_BT", "step_reward_BT"}),
    is_relative=True,
    params=(
        Param(name="normaliser", kind=Normaliser, default=Normaliser.STD, why="what deviations are divided by"),
        Param(
            name="statistics",
            kind=Statistics,
            default=Statistics.TRAJECTORY,
            why="whether the episode part counts trajectories or turns; 'turn' reproduces published numbers",
        ),
        Param(name="discount", kind=float, default=0.95, minimum=0, why="of later rewards in the return of a turn"),
        Param(name="step_weight", kind=float, default=1.0, minimum=0, why="weight of the step part"),
        Param(name="advantage_eps", kind=float, default=1e-6, minimum=0, why="added to a standard deviation"),
    ),
)
