"""GAE: rewards where they are paid, against what a critic expected of each token."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.timeline import Timeline, generalised_advantages, whiten
from askesis.algorithms.types import RewardBatch, TokenBatch

__all__ = ["GAE", "WHITEN", "answer_tokens", "gae", "gae_returns", "gae_spread", "paid"]


def gae(batch: RewardBatch, *, gamma: float, gae_lambda: float, whiten_advantages: bool) -> Tensor:
    """[B] the reward itself; :func:`gae_spread` compares it with the critic. No input receives gradient."""
    return batch.reward_B.detach().clone()


def gae_spread(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    gamma: float,
    gae_lambda: float,
    whiten_advantages: bool,
) -> Tensor:
    """Generalised advantages of the sampled tokens.

        A_k = sum over j >= k of (gamma * lambda)^(j - k) * (r_j + gamma * V_{j+1} - V_j)

    Schulman et al. 2016, arXiv 1506.02438, equations 11 to 16; PPO as Search-R1 uses it, arXiv 2503.09516. r is
    :func:`paid`. k and j count the sampled tokens of a trajectory in the order of time: observations between them are
    skipped (there, they take part in the recursion; with gamma = lambda = 1 that is the same). A cut episode is not
    bootstrapped. A KL penalty in the reward is paid with the last token, not token by token.

    Args:
        advantage_B: [B] rewards, shaping and KL penalty included.
        batch: the rewards as they were judged; ``is_answer_B`` names the rows that are whitened by themselves.
        tokens: with ``value_BT`` and ``step_reward_BT``.
        gamma: discount per sampled token.
        gae_lambda: 1 trusts rewards alone, 0 the critic after one token.
        whiten_advantages: mean 0 and variance 1 over the sampled tokens (answers from states by themselves, inferred).

    Returns:
        [B, T] advantages.
    """
    _, raw_BT = _raw(advantage_B, batch, tokens, gamma, gae_lambda)
    return whiten(raw_BT, tokens.mask_BT, answer_tokens(batch, tokens)) if whiten_advantages else raw_BT


def gae_returns(
    advantage_B: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    gamma: float,
    gae_lambda: float,
    whiten_advantages: bool,
) -> Tensor:
    """[B, T] what the critic is to predict: A + V, with A before it is whitened."""
    value_BT, raw_BT = _raw(advantage_B, batch, tokens, gamma, gae_lambda)
    return torch.where(tokens.mask_BT, raw_BT + value_BT, 0.0)


def _raw(
    advantage_B: Tensor, batch: RewardBatch, tokens: TokenBatch, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    value_BT = required(tokens.value_BT, "value_BT", "estimator 'gae'").detach()
    line = Timeline.of(tokens)
    reward_SL = paid(line, advantage_B, batch, tokens)
    raw_SL = generalised_advantages(reward_SL, line.lay(value_BT), gamma=gamma, gae_lambda=gae_lambda)
    return value_BT, line.take(raw_SL, value_BT)


def paid(line: Timeline, advantage_B: Tensor, batch: RewardBatch, tokens: TokenBatch) -> Tensor:
    """[S, L] what is paid after each token: at the last token of a turn what the environment paid for the turn, and at
    the last token of the trajectory what a shaping or a KL penalty added to its reward.
    """
    step_reward_BT = required(tokens.step_reward_BT, "step_reward_BT", "estimator 'gae'").detach()
    turn_SL = line.lay(tokens.turn_BT)
    reward_SL = torch.where(line.is_last_of(turn_SL), line.lay(step_reward_BT), 0.0)
    added_S = (advantage_B - batch.reward_B.detach()).to(reward_SL)[line.sequence_S]
    is_end_SL = line.is_last_of(torch.zeros_like(turn_SL))
    return reward_SL + torch.where(is_end_SL, added_S[:, None], 0.0)


def answer_tokens(batch: RewardBatch, tokens: TokenBatch) -> Tensor | None:
    """[B, T] bool: tokens of answers that were drawn from states; None when there is none."""
    if batch.is_answer_B is None:
        return None
    return batch.is_answer_B.to(tokens.mask_BT.device)[tokens.sequence_B][:, None].expand_as(tokens.mask_BT)


WHITEN = Param(
    name="whiten_advantages",
    kind=bool,
    default=True,
    why="scale advantages to mean 0 and variance 1 over the batch's sampled tokens",
)

GAE = EstimatorStage(
    name="gae",
    function=gae,
    spread=gae_spread,
    returns=gae_returns,
    summary="rewards against what a critic expected, token by token",
    credit_needs=frozenset({"value_BT", "step_reward_BT"}),
    params=(
        Param(name="gamma", kind=float, default=1.0, minimum=0, maximum=1, why="discount per sampled token"),
        Param(
            name="gae_lambda",
            kind=float,
            default=1.0,
            minimum=0,
            maximum=1,
            why="1 trusts rewards alone, 0 the critic after one token",
        ),
        WHITEN,
    ),
)
