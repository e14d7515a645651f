"""VESPO: a gamma-shaped kernel of the sequence's importance weight, as a detached coefficient of REINFORCE."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics
from askesis.algorithms.objectives.sequences import sequences
from askesis.algorithms.stages import Coupling, ObjectiveStage, Param
from askesis.algorithms.types import LossTerms

__all__ = ["VESPO", "gamma_kernel", "vespo"]

_MIN_LOG_WEIGHT = math.log(1e-8)
_MAX_LOG_WEIGHT = 20.0
_DEAD = 1e-3
_HEAVY = math.log(100.0)


def gamma_kernel(log_weight: Tensor, c1: Tensor | float, c2: Tensor | float) -> Tensor:
    """phi(W) = W^c1 * exp(c2 * (1 - W)), computed as exp(c2 + c1 log W - c2 W).

    Shen et al. 2026, arXiv 2602.10693, section 3. phi(1) = 1; for positive constants the highest value is
    (c1 / c2)^c1 * exp(c2 - c1) at W = c1 / c2, so no weight, however large, gives a large coefficient. log W is clamped
    to [log 1e-8, 20], as in the authors' code; their floor of 1e-4 under c2 is left out.

    Args:
        log_weight: any shape, float of any kind.
        c1: power of the weight.
        c2: rate of the exponential.

    Returns:
        The shape of ``log_weight``, float32 or float64; carries no gradient, and is 0 where it would be no number.
    """
    if log_weight.dtype != torch.float64:
        log_weight = log_weight.float()
    log_weight = log_weight.detach().clamp(_MIN_LOG_WEIGHT, _MAX_LOG_WEIGHT)
    return (c2 + c1 * log_weight - c2 * log_weight.exp()).exp().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def vespo(
    logp_new_BT: Tensor,
    logp_behaviour_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    sequence_B: Tensor,
    c1_positive: float,
    c2_positive: float,
    c1_negative: float,
    c2_negative: float,
) -> LossTerms:
    """Variational sequence-level soft policy optimisation.

        l = -sg(phi(W)) * A * logp_new,  log W = sum over the sequence's tokens of (logp_new - logp_behaviour)

    Shen et al. 2026, arXiv 2602.10693, section 3; phi is :func:`gamma_kernel`, with the positive constants where the
    mean of A over the sequence is >= 0. There is no division by the length and no clip. The gradient is
    -phi * A * grad logp_new; on-policy it is that of REINFORCE. A sequence is a whole trajectory. The log-ratio of a
    token is clamped to [-20, 20]. Aggregate by token_mean: a mean within each sequence brings back the division by
    length that the paper's ablation found to collapse. Fails by a silent stall: when |log W| passes about 3, phi is
    nearly 0 for both signs; watch ``phi_dead``. Raises nothing.

    Args:
        logp_new_BT: [B, T] float; receives gradient.
        logp_behaviour_BT: [B, T] float of the policy that really sampled; no gradient.
        advantage_BT: [B, T] float; no gradient.
        mask_BT: [B, T] bool.
        sequence_B: [B] int64, all rows of each sequence.
        c1_positive: c1 where A >= 0.
        c2_positive: c2 where A >= 0.
        c1_negative: c1 where A < 0.
        c2_negative: c2 where A < 0.

    Returns:
        Loss per token; diagnostics ``ratio`` and ``kl_behaviour_new`` per token, and per sequence ``phi``,
        ``phi_square`` (phi^2 / phi_square is the effective share of samples), ``phi_dead`` (share of phi < 0.001),
        ``phi_heavy`` (share of W > 100 among A < 0), ``log_ratio_sequence``.
    """
    log_ratio_BT = log_ratio(logp_new_BT, logp_behaviour_BT, mask_BT)
    advantage_BT = torch.where(mask_BT, advantage_BT.detach(), 0.0)
    table = sequences(mask_BT, sequence_B)
    log_weight_S = table.total(log_ratio_BT.detach())
    is_negative_S = table.mean(advantage_BT) < 0
    phi_S = gamma_kernel(
        log_weight_S,
        torch.full_like(log_weight_S, c1_positive).masked_fill(is_negative_S, c1_negative),
        torch.full_like(log_weight_S, c2_positive).masked_fill(is_negative_S, c2_negative),
    )
    logp_BT = torch.where(mask_BT, logp_new_BT, 0.0)
    return LossTerms(
        per_token_BT=-table.to_rows(phi_S) * advantage_BT * logp_BT,
        diagnostics=ratio_diagnostics(log_ratio_BT, mask_BT)
        | {
            "phi": table.sums(phi_S),
            "phi_square": table.sums(phi_S.square()),
            "phi_dead": table.sums(phi_S < _DEAD),
            "phi_heavy": table.sums(log_weight_S > _HEAVY, is_negative_S),
            "log_ratio_sequence": table.sums(log_weight_S),
        },
    )


VESPO = ObjectiveStage(
    name="vespo",
    function=vespo,
    summary="log-probability weighted by a gamma kernel of the sequence's importance weight",
    corrects=True,
    needs=frozenset({"sequence_B"}),
    couples=Coupling.SEQUENCE,
    params=(
        Param(name="c1_positive", kind=float, default=2.0, minimum=0, why="power of the weight where A >= 0"),
        Param(name="c2_positive", kind=float, default=3.0, minimum=0, why="rate of the exponential where A >= 0"),
        Param(name="c1_negative", kind=float, default=3.0, minimum=0, why="power of the weight where A < 0"),
        Param(name="c2_negative", kind=float, default=2.0, minimum=0, why="rate of the exponential where A < 0"),
    ),
)
