"""AEM: confident turns get more of the advantage, uncertain turns less."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.estimators.groups import sum_by
from askesis.algorithms.stages import ModulatorStage, Param
from askesis.algorithms.turns import Responses, mean_by, responses
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["AEM", "AEMScope", "aem", "coefficients"]


class AEMScope(StrEnum):
    """Among which responses entropies are compared and the mean coefficient is 1."""

    GROUP = "group"
    """All responses of all trajectories of the prompt."""
    TRAJECTORY = "trajectory"
    BATCH = "batch"


def aem(
    advantage_BT: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    aem_lambda: float,
    aem_min_range: float,
    aem_scope: AEMScope,
) -> CreditReport:
    """Adaptive entropy modulation: scale the advantage of each response (one model call) by its coefficient.

        A'_it = alpha_it * A_it,   alpha from :func:`coefficients` of the mean token entropy of the response

    Zhao et al. 2026, arXiv 2605.00425. The mean of alpha over the responses of the scope is 1 and its sign is +, so an
    advantage never changes its sign; the sum of advantages may change, where alpha and A are correlated. While failures
    prevail this raises the policy's entropy, while successes prevail it lowers it. It is a bias about where credit
    belongs: it helps where confident turns decide, and harms where uncertain ones do. No gradient flows.

    Args:
        advantage_BT: [B, T] advantages.
        batch: groups.
        tokens: with ``entropy_BT``.
        aem_lambda: strength; negative values reverse the rule.
        aem_min_range: nats; a smaller range of entropies is called noise, and all coefficients are 1.
        aem_scope: what is compared with what.

    Returns:
        The scaled advantages; diagnostics: ``aem_alpha_min``, ``aem_alpha_max``, ``aem_entropy`` (mean over responses,
        nats), ``aem_flat_share`` (responses whose scope has a range below the limit), ``aem_alpha_advantage`` (mean of
        (alpha - 1) * A over responses: how much the modulation shifts the mean advantage).
    """
    entropy_BT = required(tokens.entropy_BT, "entropy_BT", "modulator 'aem'")
    table = responses(tokens)
    if not len(table.size_R):
        return CreditReport(advantage_BT=advantage_BT, diagnostics={})
    entropy_R = mean_by(entropy_BT[tokens.mask_BT], table.token_to_response_N, len(table.size_R))
    scope_R = _scope(table, batch, aem_scope)
    alpha_R, is_flat_R = coefficients(entropy_R, scope_R, strength=aem_lambda, min_range=aem_min_range)
    advantage_N = advantage_BT[tokens.mask_BT]
    alpha_N = alpha_R[table.token_to_response_N].to(advantage_BT.dtype)
    shift_R = (alpha_R - 1) * advantage_N[table.first_R]
    return CreditReport(
        advantage_BT=advantage_BT.masked_scatter(tokens.mask_BT, alpha_N * advantage_N),
        diagnostics={
            "aem_alpha_min": float(alpha_R.min()),
            "aem_alpha_max": float(alpha_R.max()),
            "aem_entropy": float(entropy_R.mean()),
            "aem_flat_share": float(is_flat_R.double().mean()),
            "aem_alpha_advantage": float(shift_R.mean()),
        },
    )


def coefficients(entropy_R: Tensor, scope_R: Tensor, *, strength: float, min_range: float) -> tuple[Tensor, Tensor]:
    """The coefficient of each response.

        h = (H - min H) / (max H - min H),   alpha = exp(-strength * h) / mean exp(-strength * h)

    minimum, maximum and mean over the responses with the same ``scope_R``; alpha = 1 where max H - min H is below
    ``min_range``. Adding a number to all H, or scaling them all, changes nothing.

    Returns:
        [R] float64 alpha, and [R] bool: the range was below the limit.
    """
    ids_S, index_R = torch.unique(scope_R, return_inverse=True)
    empty_S = torch.zeros(len(ids_S), dtype=torch.float64, device=entropy_R.device)
    low_S = empty_S.scatter_reduce(0, index_R, entropy_R, "amin", include_self=False)
    range_S = empty_S.scatter_reduce(0, index_R, entropy_R, "amax", include_self=False) - low_S
    is_flat_S = range_S < min_range
    relative_R = (entropy_R - low_S[index_R]) / torch.where(range_S > 0, range_S, 1.0)[index_R]
    factor_R = (-strength * relative_R).exp()
    mean_S = sum_by(factor_R, index_R, len(ids_S)) / torch.bincount(index_R)
    is_flat_R = is_flat_S[index_R]
    return torch.where(is_flat_R, 1.0, factor_R / mean_S[index_R]), is_flat_R


def _scope(table: Responses, batch: RewardBatch, scope: AEMScope) -> Tensor:
    match scope:
        case AEMScope.GROUP:
            return batch.group_B.to(table.sequence_R.device)[table.sequence_R]
        case AEMScope.TRAJECTORY:
            return table.sequence_R
        case AEMScope.BATCH:
            return torch.zeros_like(table.sequence_R)


AEM = ModulatorStage(
    name="aem",
    function=aem,
    summary="scales each turn's advantage by exp(-lambda * its relative entropy), mean 1 within the group",
    needs=frozenset({"entropy_BT"}),
    params=(
        Param(name="aem_lambda", kind=float, default=1.0, why="strength; 0 changes nothing, below 0 reverses it"),
        Param(
            name="aem_min_range",
            kind=float,
            default=0.1,
            minimum=0,
            why="nats; entropies that differ by less within the scope are left alone",
        ),
        Param(name="aem_scope", kind=AEMScope, default=AEMScope.GROUP, why="among which responses entropy is compared"),
    ),
)
