"""The clipped surrogate of PPO, as GRPO, Dr.GRPO and their relatives use it."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics, share
from askesis.algorithms.stages import ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["PPO_CLIP", "ppo_clip"]


def ppo_clip(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> LossTerms:
    """Policy gradient that stops at tokens that already moved far enough the right way.

        l = max(-A * ratio, -A * clip(ratio, 1 - clip_low, 1 + clip_high)),  ratio = exp(logp_new - logp_behaviour)
        with dual clip c, where A < 0:  l = min(l, -A * c)

    Schulman et al. 2017, arXiv 1707.06347, equation 7; separate bounds: Yu et al. 2025 (DAPO), arXiv 2503.14476; dual
    clip: Ye et al. 2020, arXiv 1912.09729. We clamp the log-ratio to [-20, 20], so no ratio is infinite. The gradient
    is -A * ratio * grad logp_new where nothing clips, else 0; on-policy it is that of REINFORCE. A zero advantage or an
    empty mask gives loss 0 and gradient 0. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        clip_low: how far the ratio may fall below 1 while A < 0.
        clip_high: how far it may rise above 1 while A > 0.
        dual_clip: the ratio above which tokens with A < 0 stop too; None for no such bound.

    Returns:
        Loss per token; diagnostics ``ratio``, ``kl_behaviour_new``, and the shares of tokens whose gradient a bound
        stopped: ``clipped_low``, ``clipped_high`` and, with a dual clip, ``clipped_dual``.
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    ratio_BT = log_ratio_BT.exp()
    bounded_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss_BT = torch.maximum(-advantage_BT * ratio_BT, -advantage_BT * bounded_BT)
    is_negative_BT = advantage_BT < 0
    diagnostics = ratio_diagnostics(log_ratio_BT, mask_BT) | {
        "clipped_low": share(is_negative_BT & (ratio_BT < 1 - clip_low), mask_BT),
        "clipped_high": share((advantage_BT > 0) & (ratio_BT > 1 + clip_high), mask_BT),
    }
    if dual_clip is not None:
        loss_BT = torch.where(is_negative_BT, torch.minimum(loss_BT, -advantage_BT * dual_clip), loss_BT)
        diagnostics["clipped_dual"] = share(is_negative_BT & (ratio_BT > dual_clip), mask_BT)
    return LossTerms(per_token_BT=loss_BT, diagnostics=diagnostics)


PPO_CLIP = ObjectiveStage(
    name="ppo_clip",
    function=ppo_clip,
    summary="clipped importance ratio (PPO)",
    corrects=True,
    params=(
        Param(name="clip_low", kind=float, default=0.2, above=0, why="how far the ratio may fall below 1"),
        Param(name="clip_high", kind=float, default=0.2, above=0, why="how far the ratio may rise above 1"),
        Param(
            name="dual_clip",
            kind=float,
            default=None,
            above=1,
            is_optional=True,
            why="ratio above which tokens with a negative advantage stop (verl: 3)",
        ),
    ),
)
