"""SAPO: a smooth gate in place of the clip."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics, sums
from askesis.algorithms.stages import ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["SAPO", "sapo"]


def sapo(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    tau_positive: float,
    tau_negative: float,
) -> LossTerms:
    """Soft adaptive policy optimisation.

        l = -A * (4 / tau) * sigmoid(tau * (ratio - 1)),  tau = tau_positive if A > 0 else tau_negative

    Gao et al. 2025, arXiv 2511.20347. The gradient is -A * 4 p (1 - p) * ratio * grad logp_new with p the sigmoid; at
    ratio 1 it is that of REINFORCE, and it falls smoothly on both sides. The value at ratio 1 is -2 A / tau, not -A:
    judge by gradients. The log-ratio is clamped to [-20, 20]. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        tau_positive: how fast the gate closes where A > 0.
        tau_negative: the same where A <= 0.

    Returns:
        Loss per token; diagnostics ``ratio``, ``kl_behaviour_new`` and ``gate``, the mean of 4 p (1 - p): 1 is open.
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    tau_BT = torch.full_like(log_ratio_BT, tau_negative).masked_fill(advantage_BT > 0, tau_positive)
    gate_BT = torch.sigmoid(tau_BT * (log_ratio_BT.exp() - 1))
    openness_BT = (4 * gate_BT * (1 - gate_BT)).detach()
    return LossTerms(
        per_token_BT=-advantage_BT * gate_BT * 4 / tau_BT,
        diagnostics=ratio_diagnostics(log_ratio_BT, mask_BT) | {"gate": sums(openness_BT, mask_BT)},
    )


SAPO = ObjectiveStage(
    name="sapo",
    function=sapo,
    summary="importance ratio through a sigmoid gate",
    corrects=True,
    params=(
        Param(name="tau_positive", kind=float, default=1.0, above=0, why="how fast the gate closes where A > 0"),
        Param(name="tau_negative", kind=float, default=1.05, above=0, why="how fast the gate closes where A <= 0"),
    ),
)
