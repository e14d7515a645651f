"""CW-NSR: wrong answers that the policy was sure of are punished harder than wrong answers that it tried."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.stages import CreditStage, Param
from askesis.algorithms.turns import mean_by, responses
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["CONFIDENCE", "confidence"]


def confidence(
    advantage_BT: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    confidence_floor: float,
    confidence_per_turn: bool,
    confidence_mean_one: bool,
) -> CreditReport:
    """Confidence-weighted penalties.

        conf = exp(mean over tokens of log pi_old),   w = clamp(conf, floor, 1),   A' = w * A where A < 0, else A

    Ingle et al. 2026, arXiv 2605.07137, and the code of its CW-NSR. conf is the geometric mean probability of the
    sampled tokens under the policy that sampled, so it does not depend on length and needs no further pass. All w are
    at most 1, so this also weakens the penalties as a whole; ``confidence_mean_one`` takes that part away. No gradient
    flows.

    Args:
        advantage_BT: [B, T] advantages.
        batch: not used.
        tokens: their behaviour log-probabilities.
        confidence_floor: the least weight of a penalty.
        confidence_per_turn: judge each response by itself, not the whole trajectory.
        confidence_mean_one: divide the weights by their mean over penalised trajectories (or responses).

    Returns:
        The advantages; diagnostics ``confidence_wrong`` and ``confidence_right``: mean conf of what has a negative and
        of what has another advantage, each only where there is some.
    """
    table = responses(tokens)
    if not len(table.size_R):
        return CreditReport(advantage_BT=advantage_BT, diagnostics={})
    unit_R = torch.arange(len(table.size_R), device=table.size_R.device) if confidence_per_turn else table.sequence_R
    ids_U, unit_N = torch.unique(unit_R[table.token_to_response_N], return_inverse=True)
    conf_U = mean_by(tokens.logp_behaviour_BT[tokens.mask_BT], unit_N, len(ids_U)).exp()
    advantage_N = advantage_BT[tokens.mask_BT]
    is_wrong_U = mean_by(advantage_N, unit_N, len(ids_U)) < 0
    weight_U = conf_U.clamp(confidence_floor, 1.0)
    if confidence_mean_one and bool(is_wrong_U.any()):
        weight_U = weight_U / weight_U[is_wrong_U].mean()
    scaled_N = torch.where(advantage_N < 0, weight_U[unit_N].to(advantage_N.dtype) * advantage_N, advantage_N)
    means = {"confidence_wrong": conf_U[is_wrong_U], "confidence_right": conf_U[~is_wrong_U]}
    return CreditReport(
        advantage_BT=advantage_BT.masked_scatter(tokens.mask_BT, scaled_N),
        diagnostics={name: float(conf.mean()) for name, conf in means.items() if len(conf)},
    )


CONFIDENCE = CreditStage(
    name="confidence",
    function=confidence,
    summary="scales negative advantages by the probability that the policy gave to the answer, per token",
    only_penalties=True,
    params=(
        Param(name="confidence_floor", kind=float, default=0.05, minimum=0, why="the least weight of a penalty"),
        Param(name="confidence_per_turn", kind=bool, default=False, why="judge each response by itself"),
        Param(
            name="confidence_mean_one",
            kind=bool,
            default=False,
            why="keep the mean penalty what it was, so that only its spread changes (an ablation)",
        ),
    ),
)
