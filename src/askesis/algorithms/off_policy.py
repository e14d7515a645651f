"""How stale a batch has become: what importance ratios say about the distance between two policies."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.estimators.groups import sum_by

__all__ = ["effective_share", "off_policy"]

_QUANTILES = {"ratio_p01": 0.01, "ratio_p50": 0.5, "ratio_p99": 0.99}


def effective_share(log_weight_N: Tensor) -> float:
    """The effective sample size of importance weights, as a share of the samples.

        ESS / n = (sum w)^2 / (n * sum w^2)

    Kong 1992. It does not change when all weights are scaled, so the largest is made 1 first: nothing overflows.

    Args:
        log_weight_N: [N] logarithms of the weights, at least one.

    Returns:
        From 1 / n (one sample has all the weight) to 1 (all weigh the same).
    """
    weight_N = (log_weight_N.double() - log_weight_N.double().max()).exp()
    return float(weight_N.sum().square() / (len(weight_N) * weight_N.square().sum()))


@torch.no_grad()
def off_policy(log_ratio_BT: Tensor, mask_BT: Tensor, sequence_B: Tensor) -> dict[str, float]:
    """What a whole batch says about new / behaviour. Quantiles do not add up, so give all rows of an update at once.

    Args:
        log_ratio_BT: [B, T] float, logp_new - logp_behaviour; not clamped, anything where the mask is False.
        mask_BT: [B, T] bool.
        sequence_B: [B] int64: which trajectory a row belongs to; the ratio of a trajectory is the product of its
            tokens' ratios.

    Returns:
        Nothing for an empty mask, else:
        ``ess_token`` and ``ess_sequence``, :func:`effective_share` of the ratios of tokens and of trajectories;
        ``kl_behaviour_new_k1`` and ``kl_behaviour_new_k3``, estimates of KL(behaviour || new) per token in nats;
        ``ratio_p01``, ``ratio_p50``, ``ratio_p99``, ``ratio_max`` of tokens (infinite above exp(709));
        ``log_ratio_sequence_min`` and ``log_ratio_sequence_max``.
    """
    log_ratio_N = log_ratio_BT[mask_BT].double()
    if not log_ratio_N.numel():
        return {}
    ids_S, row_to_sequence_B = torch.unique(sequence_B, return_inverse=True)
    summed_S = sum_by(torch.where(mask_BT, log_ratio_BT.double(), 0.0).sum(dim=1), row_to_sequence_B, len(ids_S))
    summed_S = summed_S[sum_by(mask_BT.sum(dim=1), row_to_sequence_B, len(ids_S)) > 0]
    sorted_N = log_ratio_N.sort().values
    return {
        "ess_token": effective_share(log_ratio_N),
        "ess_sequence": effective_share(summed_S),
        "kl_behaviour_new_k1": float(-log_ratio_N.mean()),
        "kl_behaviour_new_k3": float((log_ratio_N.exp() - log_ratio_N - 1).mean()),
        # Of the sorted log-ratios, not by torch.quantile, which refuses more than 2^24 numbers.
        **{name: float(sorted_N[round(q * (len(sorted_N) - 1))].exp()) for name, q in _QUANTILES.items()},
        "ratio_max": float(sorted_N[-1].exp()),
        "log_ratio_sequence_min": float(summed_S.min()),
        "log_ratio_sequence_max": float(summed_S.max()),
    }
