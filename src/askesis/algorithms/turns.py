"""Responses: the tokens that one model call of a trajectory drew, wherever they stand in the table of tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from askesis.algorithms.types import TokenBatch

__all__ = ["Responses", "mean_by", "responses", "spread_evenly"]


class Responses(NamedTuple):
    """All responses that have a sampled token, in the order of (sequence, turn)."""

    token_to_response_N: Tensor
    """[N] int64 index into R, for the tokens ``tensor_BT[mask_BT]``."""
    sequence_R: Tensor
    """[R] int64: row of the reward batch."""
    size_R: Tensor
    """[R] int64: sampled tokens."""
    first_R: Tensor
    """[R] int64: one token of each response, as an index into N."""


def responses(tokens: TokenBatch) -> Responses:
    """The responses of a batch. A trajectory's turns may lie in several rows, and a row may hold several turns."""
    sequence_N = tokens.sequence_B[:, None].expand_as(tokens.mask_BT)[tokens.mask_BT]
    turn_N = tokens.turn_BT[tokens.mask_BT]
    # One number for each (sequence, turn): sorting numbers is far cheaper than sorting pairs.
    turn_N = turn_N - turn_N.min() if turn_N.numel() else turn_N
    span = turn_N.max() + 1 if turn_N.numel() else 1
    _, index_N, size_R = torch.unique(sequence_N * span + turn_N, return_inverse=True, return_counts=True)
    order_N = torch.arange(len(index_N), device=index_N.device)
    first_R = torch.zeros_like(size_R).scatter_reduce(0, index_N, order_N, "amin", include_self=False)
    return Responses(index_N, sequence_N[first_R], size_R, first_R)


def spread_evenly(advantage_B: Tensor, tokens: TokenBatch) -> Tensor:
    """[B, T]: every sampled token gets the advantage of its trajectory, the rest 0."""
    advantage_B = advantage_B.to(tokens.mask_BT.device)
    return torch.where(tokens.mask_BT, advantage_B[tokens.sequence_B][:, None], 0.0)


def mean_by(value_N: Tensor, index_N: Tensor, size: int) -> Tensor:
    """[size] float64: the mean of the values with each index; 0 where there is none."""
    total = torch.zeros(size, dtype=torch.float64, device=value_N.device).index_add(0, index_N, value_N.double())
    return total / torch.bincount(index_N, minlength=size).clamp(min=1)
