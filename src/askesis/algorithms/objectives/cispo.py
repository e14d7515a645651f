"""CISPO: the importance weight is capped, and every token keeps its gradient."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics, share
from askesis.algorithms.stages import ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["CISPO", "Cap", "cispo"]


class Cap(StrEnum):
    """How ``clip_high`` is to be read."""

    ABOVE_ONE = "above_one"
    """The weight is at most 1 + clip_high (MiniMax-M1)."""
    ABSOLUTE = "absolute"
    """The weight is at most clip_high (ScaleRL and TRL: 5)."""


def cispo(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip_low: float | None,
    clip_high: float,
    cap: Cap,
) -> LossTerms:
    """Clipped importance-sampling policy optimisation.

        l = -sg(clip(ratio, 1 - clip_low, 1 + clip_high)) * A * logp_new,  ratio = exp(logp_new - logp_behaviour)

    MiniMax 2025 (M1), arXiv 2506.13585, equations 4 and 5. The log-ratio is clamped to [-20, 20]. The gradient is
    -A * clip(ratio) * grad logp_new; on-policy it is that of REINFORCE. The value is no surrogate of the reward: it
    contains logp_new. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        clip_low: the weight is at least 1 minus this; None for no such bound, as in the paper.
        clip_high: the cap, read as ``cap`` says.
        cap: whether 1 is added to it.

    Returns:
        Loss per token; diagnostics ``ratio``, ``kl_behaviour_new`` and ``capped``, the share of tokens whose weight a
        bound changed (none of them is stopped).
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    ratio_BT = log_ratio_BT.detach().exp()
    lowest = 0.0 if clip_low is None else 1 - clip_low
    weight_BT = ratio_BT.clamp(lowest, clip_high if cap is Cap.ABSOLUTE else 1 + clip_high)
    logp_BT = torch.where(mask_BT, logp_new_BT, 0.0)
    return LossTerms(
        per_token_BT=-weight_BT * advantage_BT * logp_BT,
        diagnostics=ratio_diagnostics(log_ratio_BT, mask_BT) | {"capped": share(weight_BT != ratio_BT, mask_BT)},
    )


CISPO = ObjectiveStage(
    name="cispo",
    function=cispo,
    summary="log-probability weighted by the capped, detached importance ratio",
    corrects=True,
    params=(
        Param(
            name="clip_low",
            kind=float,
            default=None,
            above=0,
            is_optional=True,
            why="the weight is at least 1 minus this; none in the paper",
        ),
        Param(name="clip_high", kind=float, default=0.2, above=0, why="the cap of the weight, read as cap says"),
        Param(name="cap", kind=Cap, default=Cap.ABOVE_ONE, why="the cap is 1 + clip_high, or clip_high itself"),
    ),
)
