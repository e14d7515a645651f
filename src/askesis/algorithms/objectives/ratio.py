"""The importance ratio between the policy being trained and the one that sampled, and how to watch it."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.types import Sums

__all__ = ["log_ratio", "ratio_diagnostics", "share", "sums"]

_MAX_LOG_RATIO = 20.0


def log_ratio(logp_new_BT: Tensor, logp_behaviour_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """[B, T] log(new / behaviour), clamped to [-20, 20] (no gradient beyond), 0 where the mask is False.

    Values under a False mask are not read, so NaN there is harmless. Gradient flows to ``logp_new_BT`` only.
    """
    difference_BT = torch.where(mask_BT, logp_new_BT - logp_behaviour_BT.detach(), 0.0)
    return difference_BT.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)


def ratio_diagnostics(log_ratio_BT: Tensor, mask_BT: Tensor) -> dict[str, Sums]:
    """``ratio``: new / behaviour; ``kl_behaviour_new``: KL(behaviour || new) by the k3 estimate; per token, nats."""
    log_ratio_BT = log_ratio_BT.detach()
    ratio_BT = log_ratio_BT.exp()
    return {
        "ratio": sums(ratio_BT, mask_BT),
        "kl_behaviour_new": sums(ratio_BT - log_ratio_BT - 1, mask_BT),
    }


def share(event_BT: Tensor, mask_BT: Tensor) -> Sums:
    """The share of sampled tokens at which ``event_BT`` (bool) holds."""
    return sums(event_BT.to(torch.float32), mask_BT)


def sums(value_BT: Tensor, mask_BT: Tensor) -> Sums:
    """The mean of a value over the sampled tokens."""
    return Sums(total=torch.where(mask_BT, value_BT, 0.0).sum().detach(), count=mask_BT.sum())
