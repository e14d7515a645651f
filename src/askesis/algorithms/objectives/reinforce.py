"""The plain policy gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics
from askesis.algorithms.stages import ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["REINFORCE", "reinforce"]


def reinforce(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    importance_weighted: bool,
) -> LossTerms:
    """Policy gradient without any clipping.

        l = -A * logp_new                                        the default, right for one update per rollout
        l = -A * ratio,  ratio = exp(logp_new - logp_behaviour)  importance_weighted, for several updates

    Williams 1992; both have the same gradient while new = behaviour. The log-ratio is clamped to [-20, 20]. A zero
    advantage or an empty mask gives loss 0 and gradient 0. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        importance_weighted: which of the two forms.

    Returns:
        Loss per token; diagnostics ``ratio`` and ``kl_behaviour_new``.
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    score_BT = log_ratio_BT.exp() if importance_weighted else torch.where(mask_BT, logp_new_BT, 0.0)
    return LossTerms(per_token_BT=-advantage_BT * score_BT, diagnostics=ratio_diagnostics(log_ratio_BT, mask_BT))


REINFORCE = ObjectiveStage(
    name="reinforce",
    function=reinforce,
    summary="-advantage * log-probability, no clipping",
    corrects=False,
    params=(
        Param(
            name="importance_weighted",
            kind=bool,
            default=False,
            why="use -advantage * ratio, which stays right when one rollout serves several updates",
        ),
    ),
)
