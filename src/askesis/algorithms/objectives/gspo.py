"""GSPO: the clipped surrogate with the importance ratio of the whole sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics, share
from askesis.algorithms.objectives.sequences import sequences
from askesis.algorithms.stages import Coupling, ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["GSPO", "gspo"]

_MAX_LOG_SEQUENCE_RATIO = 10.0


def gspo(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    sequence_B: Tensor,
    clip_low: float,
    clip_high: float,
) -> LossTerms:
    """Group sequence policy optimisation, in the form that lets each token have an advantage of its own.

        l = max(-A * s, -A * clip(s, 1 - clip_low, 1 + clip_high))
        s = exp(mean over the sequence's tokens of (logp_new - logp_behaviour))
        per token: log s_t = logp_new - sg(logp_new) + sg(log s)

    Zheng et al. 2025, arXiv 2507.18071, equations 5 and 7; per token: 13 and 14. The value is that of the sequence
    form; so is the gradient, while the advantage and the weight are the same at all tokens of a sequence. A sequence is
    a whole trajectory. The log-ratio of a token is clamped to [-20, 20], log s to at most 10. One token per sequence is
    the clipped ratio of PPO. On-policy the gradient is that of REINFORCE. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        sequence_B: [B] int64, all rows of each sequence.
        clip_low: how far the ratio of a sequence may fall below 1 while A < 0.
        clip_high: how far it may rise above 1 while A > 0.

    Returns:
        Loss per token; diagnostics ``ratio``, ``kl_behaviour_new``, ``ratio_sequence`` (mean of s over sequences),
        ``clipped_low`` and ``clipped_high`` (shares of tokens).
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    table = sequences(mask_BT, sequence_B)
    log_s_S = table.mean(log_ratio_BT.detach())
    # Of value 0; it carries the gradient of the token's own log-probability.
    gradient_BT = torch.where(mask_BT, logp_new_BT - logp_new_BT.detach(), 0.0)
    s_BT = (table.to_rows(log_s_S).clamp(max=_MAX_LOG_SEQUENCE_RATIO) + gradient_BT).exp()
    loss_BT = torch.maximum(-advantage_BT * s_BT, -advantage_BT * s_BT.clamp(1 - clip_low, 1 + clip_high))
    return LossTerms(
        per_token_BT=loss_BT,
        diagnostics=ratio_diagnostics(log_ratio_BT, mask_BT)
        | {
            "ratio_sequence": table.sums(log_s_S.exp()),
            "clipped_low": share((advantage_BT < 0) & (s_BT < 1 - clip_low), mask_BT),
            "clipped_high": share((advantage_BT > 0) & (s_BT > 1 + clip_high), mask_BT),
        },
    )


GSPO = ObjectiveStage(
    name="gspo",
    function=gspo,
    summary="clipped importance ratio of the whole sequence, per token (geometric mean)",
    corrects=True,
    needs=frozenset({"sequence_B"}),
    couples=Coupling.SEQUENCE,
    params=(
        Param(name="clip_low", kind=float, default=3e-4, above=0, why="how far a sequence's ratio may fall below 1"),
        Param(name="clip_high", kind=float, default=4e-4, above=0, why="how far a sequence's ratio may rise above 1"),
    ),
)
