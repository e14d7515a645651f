"""Reductions over the vocabulary, on a chunk of tokens: nothing of size V leaves them.

The caller cuts the tokens into chunks, so that a few [N, V] tensors are the largest that exist. Logits may be -inf
(tokens that cannot be drawn) and of any float type; the sums are taken in float32 at least.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["entropy", "hellinger"]


def entropy(logits_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """The entropy of each row's distribution softmax(logits / temperature).

        H = - sum over v of p_v * log p_v

    Args:
        logits_NV: [N, V] float.
        temperature: of sampling, above 0.

    Returns:
        [N] nats, from 0 to log V; float32, or float64 for float64 logits. Differentiable.
    """
    logp_NV = _log_softmax(logits_NV, temperature)
    p_NV = logp_NV.exp()
    # 0 * log 0 is 0; a product with -inf would be NaN.
    return -torch.where(p_NV > 0, p_NV * logp_NV, 0.0).sum(dim=-1)


@torch.no_grad()
def hellinger(logits_new_NV: Tensor, logits_ref_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """The squared Hellinger distance of two distributions, both at the sampling temperature.

        d = 1 - sum over v of sqrt(p_v * q_v) = 1/2 * sum over v of (sqrt p_v - sqrt q_v)^2

    DGPO, arXiv 2605.03327, section 3.2. We sum the second form: the first subtracts two numbers near 1, and loses the
    small distances that occur in training (float32 keeps seven digits).

    Args:
        logits_new_NV: [N, V] float, the policy.
        logits_ref_NV: [N, V] float, the reference.
        temperature: of sampling, above 0.

    Returns:
        [N] from 0 (equal) to 1 (no token in common); float32, or float64 for float64 logits. Carries no gradient.
    """
    root_p_NV = (_log_softmax(logits_new_NV, temperature) / 2).exp_()
    root_q_NV = (_log_softmax(logits_ref_NV, temperature) / 2).exp_()
    return (root_p_NV.sub_(root_q_NV).square_().sum(dim=-1) / 2).clamp(max=1.0)


def _log_softmax(logits_NV: Tensor, temperature: float) -> Tensor:
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return (logits_NV / temperature).log_softmax(dim=-1)
