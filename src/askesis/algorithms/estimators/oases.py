"""OASES: what a search was worth is how much better the question can be answered after it."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.estimators.gae import WHITEN, answer_tokens, gae, paid
from askesis.algorithms.estimators.groups import standardise
from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.timeline import Timeline, generalised_advantages, to_go, whiten
from askesis.algorithms.types import RewardBatch, TokenBatch

__all__ = ["OASES", "OASES_GRPO", "ProcessCredit", "oases_grpo_spread", "oases_returns", "oases_spread"]


class ProcessCredit(StrEnum):
    """Which rewards a token answers for."""

    RETURN_TO_GO = "return_to_go"
    """All that follow: the process rewards of its turn and of later ones, and the outcome."""
    IMMEDIATE = "immediate"
    """The process reward of its own turn, and the outcome."""
    GAE_LAMBDA = "gae_lambda"
    """All that follow, by ``gae_lambda`` shortened with the critic's help."""


def oases(
    batch: RewardBatch,
    *,
    process_weight: float,
    process_credit: ProcessCredit,
    gamma: float,
    gae_lambda: float,
    whiten_advantages: bool,
) -> Tensor:
    """[B] the outcome; :func:`oases_spread` adds the process rewards. No input receives gradient."""
    return gae(batch, gamma=gamma, gae_lambda=gae_lambda, whiten_advantages=whiten_advantages)


def oases_spread(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    process_weight: float,
    process_credit: ProcessCredit,
    gamma: float,
    gae_lambda: float,
    whiten_advantages: bool,
) -> Tensor:
    """Advantages of process rewards and outcome against the critic.

        r_t = process_weight * (v_t - v_{t-1})   at the last token that acts in state t - 1
        A   = GAE of r and the outcome           lambda 1 (return_to_go) or gae_lambda
        A_k = r_t + outcome - V_k                (immediate)

    v_t is what an answer from state t was worth. Zhang et al. 2026, arXiv 2604.03675 (equations of version 1); the two
    other credits are inferred. With process_weight = 0 and return_to_go this is ``gae`` with lambda 1, bit for bit.
    Answers that were drawn from states have one state and no gain: their reward alone counts.

    Returns:
        [B, T] advantages; no input receives gradient.
    """
    _, raw_BT = _raw(advantage_B, batch, tokens, process_weight, process_credit, gamma, gae_lambda)
    return whiten(raw_BT, tokens.mask_BT, answer_tokens(batch, tokens)) if whiten_advantages else raw_BT


def oases_returns(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    process_weight: float,
    process_credit: ProcessCredit,
    gamma: float,
    gae_lambda: float,
    whiten_advantages: bool,
) -> Tensor:
    """[B, T] what the critic is to predict: A + V, with A before it is whitened."""
    value_BT, raw_BT = _raw(advantage_B, batch, tokens, process_weight, process_credit, gamma, gae_lambda)
    return torch.where(tokens.mask_BT, raw_BT + value_BT, 0.0)


def _raw(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    weight: float,
    kind: ProcessCredit,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    value_BT = required(tokens.value_BT, "value_BT", "estimator 'oases'").detach()
    line = Timeline.of(tokens)
    reward_SL, value_SL = paid(line, advantage_B, batch, tokens), line.lay(value_BT)
    process_SL = weight * line.lay(required(tokens.gain_BT, "gain_BT", "estimator 'oases'").detach())
    if kind is not ProcessCredit.IMMEDIATE:
        reward_SL = reward_SL + torch.where(_ends_of_states(line, tokens), process_SL, 0.0)
    shortened = gae_lambda if kind is ProcessCredit.GAE_LAMBDA else 1.0
    raw_SL = generalised_advantages(reward_SL, value_SL, gamma=gamma, gae_lambda=shortened)
    if kind is ProcessCredit.IMMEDIATE:
        raw_SL = raw_SL + process_SL
    return value_BT, line.take(raw_SL, value_BT)


def _ends_of_states(line: Timeline, tokens: TokenBatch) -> Tensor:
    return line.is_last_of(line.lay(required(tokens.state_BT, "state_BT", "estimator 'oases'")))


def oases_grpo(batch: RewardBatch, *, process_weight: float, advantage_eps: float) -> Tensor:
    """[B] the outcome; :func:`oases_grpo_spread` compares returns within groups. No input receives gradient."""
    return batch.reward_B.detach().clone()


def oases_grpo_spread(
    advantage_B: Tensor, batch: RewardBatch, tokens: TokenBatch, *, process_weight: float, advantage_eps: float
) -> Tensor:
    """The variant without a critic.

        G_it = sum over u >= t of process_weight * (v_u - v_{u-1}) + outcome,   for the last turn the outcome
        A_it = (G_it - mean) / (std + eps),   mean and std (n - 1) over all turns of the group's trajectories

    Inferred (the paper's section on groups says that states of one trajectory have no group of their own; with several
    answers from a state they do). Answers come in groups of their own. A group of one teaches nothing: A = 0.

    Returns:
        [B, T] advantages, the same at all tokens that act in one state; no input receives gradient.
    """
    gain_BT = required(tokens.gain_BT, "gain_BT", "estimator 'oases_grpo'").detach()
    line = Timeline.of(tokens)
    is_end_SL = _ends_of_states(line, tokens)
    process_SL = torch.where(is_end_SL, process_weight * line.lay(gain_BT), 0.0)
    return_SL = to_go(process_SL) + advantage_B.to(process_SL)[line.sequence_S][:, None]
    group_SL = batch.group_B.to(is_end_SL.device)[line.sequence_S][:, None].expand_as(is_end_SL)
    return_R, group_R = return_SL[is_end_SL], group_SL[is_end_SL]
    turn_R = standardise(return_R, group_R, torch.ones_like(group_R), eps=advantage_eps)
    # Each end of a state stands for all tokens that act in it: those since the end before.
    place_SL = (is_end_SL.flatten().cumsum(0) - is_end_SL.flatten().long()).view_as(is_end_SL)
    last = max(len(turn_R) - 1, 0)
    advantage_SL = turn_R[place_SL.clamp(max=last)] if len(turn_R) else torch.zeros_like(return_SL)
    return line.take(advantage_SL, advantage_B)


_WEIGHT = Param(
    name="process_weight",
    kind=float,
    default=0.5,
    minimum=0,
    why="weight of a gain in what an answer is worth, beside the outcome (alpha)",
)

OASES = EstimatorStage(
    name="oases",
    function=oases,
    spread=oases_spread,
    returns=oases_returns,
    summary="GAE of the outcome and of each turn's gain in what an answer is worth",
    credit_needs=frozenset({"value_BT", "step_reward_BT", "state_BT", "gain_BT"}),
    params=(
        _WEIGHT,
        Param(
            name="process_credit",
            kind=ProcessCredit,
            default=ProcessCredit.RETURN_TO_GO,
            why="which rewards a token answers for",
        ),
        Param(name="gamma", kind=float, default=1.0, minimum=0, maximum=1, why="discount per sampled token"),
        Param(
            name="gae_lambda",
            kind=float,
            default=0.95,
            minimum=0,
            maximum=1,
            why="of process_credit = 'gae_lambda'; the others have 1",
        ),
        WHITEN,
    ),
)
OASES_GRPO = EstimatorStage(
    name="oases_grpo",
    function=oases_grpo,
    spread=oases_grpo_spread,
    summary="standard scores of the turns' returns within the group, gains included; no critic",
    credit_needs=frozenset({"state_BT", "gain_BT"}),
    is_relative=True,
    params=(
        _WEIGHT,
        Param(name="advantage_eps", kind=float, default=1e-6, minimum=0, why="added to a standard deviation"),
    ),
)
