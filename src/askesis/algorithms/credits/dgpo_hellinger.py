"""DGPO: tokens at which an unsure policy left its reference get more of the advantage.

The registry key is ``dgpo_hellinger``, because at least three other methods are called DGPO.
"""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.estimators.groups import sum_by
from askesis.algorithms.stages import CreditStage, Param
from askesis.algorithms.turns import responses
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["DGPO_HELLINGER", "MaxEntropy", "dgpo_hellinger", "softmax_weights"]


class MaxEntropy(StrEnum):
    """What an entropy is divided by to lie between 0 and 1."""

    LOG_VOCAB = "log_vocab"
    """log V, the largest that there can be."""
    RESPONSE_MAX = "response_max"
    """The largest of the response: entropies of a language model are small beside log V."""


def dgpo_hellinger(
    advantage_BT: Tensor,
    batch: RewardBatch,
    tokens: TokenBatch,
    *,
    dgpo_tau: float,
    dgpo_kappa: float,
    dgpo_root: bool,
    dgpo_max_entropy: MaxEntropy,
    dgpo_whole_trajectory: bool,
) -> CreditReport:
    """Distribution-guided credit.

        s_t = d_t * (H_t / H_max)^kappa,   w_t = T * exp(s_t / tau) / sum over u of exp(s_u / tau),   A'_t = A_t * w_t

    Jin et al. 2026, arXiv 2605.03327, section 3.2: d is the squared Hellinger distance between policy and reference, H
    the policy's entropy, T and the sum are over the tokens of the response, so the mean of w is 1 and the sum of the
    advantages stays. The weights are of the policy before this step's first update and carry no gradient. While policy
    and reference agree they are 1. They lie between exp(-1 / tau) and exp(1 / tau) times each other. With a real
    vocabulary log V is large and the default tau gives weights within a few per cent of 1: use ``response_max``, the
    root, or a smaller tau; without the entropy gate a small tau locks on to tokens that have already changed.

    Args:
        advantage_BT: [B, T] advantages.
        batch: not used.
        tokens: with ``hellinger_BT``, ``entropy_BT`` and ``vocab_size``.
        dgpo_tau: temperature of the softmax.
        dgpo_kappa: exponent of the entropy gate; 0 opens it.
        dgpo_root: use the distance itself, not its square (not in the paper).
        dgpo_max_entropy: H_max.
        dgpo_whole_trajectory: let the softmax run over all responses of a trajectory.

    Returns:
        The advantages; diagnostics ``dgpo_weight_std``, ``dgpo_weight_max``, ``dgpo_distance`` and ``dgpo_gate`` (means
        of d and of H / H_max over tokens) and ``dgpo_weight_top_tenth`` (share of the weight on a tenth of the tokens).
    """
    hellinger_BT = required(tokens.hellinger_BT, "hellinger_BT", "credit 'dgpo_hellinger'")
    entropy_BT = required(tokens.entropy_BT, "entropy_BT", "credit 'dgpo_hellinger'")
    vocab_size = required(tokens.vocab_size, "vocab_size", "credit 'dgpo_hellinger'")
    table = responses(tokens)
    if not len(table.size_R):
        return CreditReport(advantage_BT=advantage_BT, diagnostics={})
    distance_N = hellinger_BT[tokens.mask_BT].double().clamp(0, 1)
    entropy_N = entropy_BT[tokens.mask_BT].double().clamp(min=0)
    index_N = table.token_to_response_N
    if dgpo_max_entropy is MaxEntropy.LOG_VOCAB:
        gate_N = entropy_N / max(math.log(vocab_size), 1e-12)
    else:
        highest_R = _largest(entropy_N, index_N, len(table.size_R))
        gate_N = entropy_N / highest_R.clamp(min=1e-12)[index_N]
    score_N = (distance_N.sqrt() if dgpo_root else distance_N) * gate_N.pow(dgpo_kappa)
    weight_N = softmax_weights(score_N / dgpo_tau, table.sequence_R[index_N] if dgpo_whole_trajectory else index_N)
    scaled_N = weight_N.to(advantage_BT.dtype) * advantage_BT[tokens.mask_BT]
    return CreditReport(
        advantage_BT=advantage_BT.masked_scatter(tokens.mask_BT, scaled_N),
        diagnostics={
            "dgpo_weight_std": float(weight_N.std(correction=0)),
            "dgpo_weight_max": float(weight_N.max()),
            "dgpo_weight_top_tenth": _top_share(weight_N),
            "dgpo_distance": float(distance_N.mean()),
            "dgpo_gate": float(gate_N.mean()),
        },
    )


def softmax_weights(score_N: Tensor, index_N: Tensor) -> Tensor:
    """[N] the softmax of the scores with the same index, times their number: mean 1 for each index. In log space."""
    ids_R, index_N = torch.unique(index_N, return_inverse=True)
    shifted_N = (score_N - _largest(score_N, index_N, len(ids_R))[index_N]).exp()
    return shifted_N / sum_by(shifted_N, index_N, len(ids_R))[index_N] * torch.bincount(index_N)[index_N]


def _largest(value_N: Tensor, index_N: Tensor, size: int) -> Tensor:
    empty_R = torch.zeros(size, dtype=value_N.dtype, device=value_N.device)
    return empty_R.scatter_reduce(0, index_N, value_N, "amax", include_self=False)


def _top_share(weight_N: Tensor) -> float:
    tenth = max(len(weight_N) // 10, 1)
    return float(weight_N.topk(tenth).values.sum() / weight_N.sum())


DGPO_HELLINGER = CreditStage(
    name="dgpo_hellinger",
    function=dgpo_hellinger,
    summary="softmax weights, mean 1, of distance from the reference times entropy",
    needs=frozenset({"hellinger_BT", "entropy_BT", "vocab_size"}),
    replaces_kl=True,
    params=(
        Param(name="dgpo_tau", kind=float, default=0.5, above=0, why="temperature of the softmax; lower is sharper"),
        Param(name="dgpo_kappa", kind=float, default=1.0, minimum=0, why="exponent of the entropy gate; 0 opens it"),
        Param(name="dgpo_root", kind=bool, default=False, why="use the distance instead of its square"),
        Param(
            name="dgpo_max_entropy",
            kind=MaxEntropy,
            default=MaxEntropy.LOG_VOCAB,
            why="what entropies are divided by",
        ),
        Param(
            name="dgpo_whole_trajectory",
            kind=bool,
            default=False,
            why="spread credit over all responses of a trajectory instead of within each",
        ),
    ),
)
