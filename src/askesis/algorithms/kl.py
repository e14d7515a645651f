"""Keeping a policy near a reference: three estimators of KL(new || ref), in the loss or in the reward.

With u = logp_ref - logp_new on tokens sampled from the new policy (Schulman, "Approximating KL divergence", 2020):

    k1 = -u              unbiased value, high variance, may be negative
    k2 = u^2 / 2         biased value; as a loss its on-policy gradient is the unbiased gradient of the KL
    k3 = exp(u) - u - 1  unbiased value, never negative; u is clamped to [-20, 20] and k3 to [-10, 10]
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.stages import Param
from askesis.errors import AlgorithmError, RecipeError

__all__ = ["KL_PARAMS", "KLEstimator", "KLPenalty", "KLPlacement", "kl_per_token", "reward_kl"]

_MAX_LOG_RATIO = 20.0
_MAX_K3 = 10.0


class KLEstimator(StrEnum):
    """Which estimate of the KL divergence of a token."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class KLPlacement(StrEnum):
    """Where the penalty enters."""

    LOSS = "loss"
    """``per_token + kl_beta * k`` (GRPO)."""
    REWARD = "reward"
    """``reward - kl_beta * sum over the trajectory of k1``, before the estimator (RLOO)."""


KL_PARAMS = (
    Param(name="kl_beta", kind=float, default=0.0, minimum=0, why="strength of the KL penalty; 0 needs no reference"),
    Param(name="kl_estimator", kind=KLEstimator, default=KLEstimator.K3, why="which estimate of the KL is used"),
    Param(name="kl_placement", kind=KLPlacement, default=KLPlacement.LOSS, why="penalty in the loss or in the reward"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KLPenalty:
    """A checked choice of strength, estimate and placement; the two that do not do what they say raise RecipeError."""

    beta: float
    estimator: KLEstimator
    placement: KLPlacement

    def __post_init__(self) -> None:
        if self.beta == 0:
            return
        if self.placement is KLPlacement.REWARD and self.estimator is not KLEstimator.K1:
            raise RecipeError(
                "a KL penalty in the reward is a sum of log-ratios, which is k1",
                where="kl_placement, kl_estimator",
                got=f"kl_placement='reward' with kl_estimator={self.estimator.value!r}",
                next_step="set kl_estimator = 'k1', or kl_placement = 'loss'",
            )
        if self.placement is KLPlacement.LOSS and self.estimator is KLEstimator.K1:
            raise RecipeError(
                "k1 in the loss regularises nothing: its expected gradient on the policy's own samples is zero",
                where="kl_placement, kl_estimator",
                got="kl_placement='loss' with kl_estimator='k1'",
                next_step="set kl_estimator = 'k3' (GRPO) or 'k2' (unbiased gradient), or kl_placement = 'reward'",
            )

    @property
    def is_in_reward(self) -> bool:
        """The penalty lowers rewards, so ``RewardBatch.kl_B`` is needed."""
        return self.beta > 0 and self.placement is KLPlacement.REWARD

    @property
    def is_in_loss(self) -> bool:
        """The penalty is a term of the loss, so ``LossInputs.logp_ref_BT`` is needed."""
        return self.beta > 0 and self.placement is KLPlacement.LOSS


def kl_per_token(logp_new: Tensor, logp_ref: Tensor, estimator: KLEstimator) -> Tensor:
    """The estimate for each token, in nats, any shape. Gradient flows to ``logp_new`` only.

    Where k3 or its log-ratio is clamped, the gradient is zero.
    """
    u = logp_ref.detach() - logp_new
    match estimator:
        case KLEstimator.K1:
            return -u
        case KLEstimator.K2:
            return u.square() / 2
        case KLEstimator.K3:
            u = u.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
            return (u.exp() - u - 1).clamp(-_MAX_K3, _MAX_K3)


def reward_kl(
    logp_behaviour_BT: Tensor, logp_ref_BT: Tensor, mask_BT: Tensor, reward_row_B: Tensor, num_rewards: int
) -> Tensor:
    """The sum of k1 over the sampled tokens of each trajectory, for ``RewardBatch.kl_B``.

    Args:
        logp_behaviour_BT: [B, T] log-probability under the policy that sampled, nats.
        logp_ref_BT: [B, T] the same under the reference.
        mask_BT: [B, T] bool.
        reward_row_B: [B] int64, the row of the reward batch that each token row belongs to.
        num_rewards: rows of the reward batch.

    Returns:
        [num_rewards] without gradient; 0 for a trajectory without sampled tokens.

    Raises:
        AlgorithmError: a row index lies outside the reward batch.
    """
    if reward_row_B.numel() and not 0 <= int(reward_row_B.min()) <= int(reward_row_B.max()) < num_rewards:
        raise AlgorithmError(
            "a token row belongs to no reward",
            got=f"row indices {int(reward_row_B.min())} to {int(reward_row_B.max())}",
            expected=f"0 to {num_rewards - 1}",
        )
    k1_BT = torch.where(mask_BT, logp_behaviour_BT - logp_ref_BT, 0.0).detach()
    return torch.zeros(num_rewards, dtype=k1_BT.dtype, device=k1_BT.device).index_add(0, reward_row_B, k1_BT.sum(dim=1))
