"""Statistics of groups given by ids, never by position."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GroupStatistics", "group_statistics", "standardise", "sum_by"]


class GroupStatistics(NamedTuple):
    """Per group, in the order of ascending ids; float64."""

    row_to_group_B: Tensor
    """[B] int64 index into G."""
    size_G: Tensor
    """[G] int64."""
    mean_G: Tensor
    is_constant_G: Tensor
    """[G] bool: all rewards are the same number (true of a group of one)."""


def group_statistics(reward_B: Tensor, group_B: Tensor) -> GroupStatistics:
    """Size, mean and constancy of each group of rewards.

    Constancy is found by comparing, not from the variance: the mean of equal numbers can differ from them by rounding,
    and dividing that by a standard deviation near zero gives advantages out of nothing.
    """
    ids_G, row_to_group_B = torch.unique(group_B, return_inverse=True)
    reward_B = reward_B.to(torch.float64)
    size_G = sum_by(torch.ones_like(row_to_group_B), row_to_group_B, len(ids_G))
    mean_G = sum_by(reward_B, row_to_group_B, len(ids_G)) / size_G
    empty_G = torch.zeros_like(mean_G)
    low_G = empty_G.scatter_reduce(0, row_to_group_B, reward_B, "amin", include_self=False)
    high_G = empty_G.scatter_reduce(0, row_to_group_B, reward_B, "amax", include_self=False)
    return GroupStatistics(row_to_group_B, size_G, mean_G, low_G == high_G)


def standardise(value_R: Tensor, group_R: Tensor, count_R: Tensor, *, eps: float | None) -> Tensor:
    """[R] float64: deviation from the group's mean, each value counted ``count_R`` times, over the standard deviation
    plus ``eps`` (over nothing when it is None); 0 in a constant group.
    """
    groups = group_statistics(value_R, group_R)
    index_R, size = groups.row_to_group_B, len(groups.size_G)
    value_R, count_R = value_R.to(torch.float64), count_R.to(torch.float64)
    total_G = sum_by(count_R, index_R, size)
    mean_G = sum_by(value_R * count_R, index_R, size) / total_G
    deviation_R = value_R - mean_G[index_R]
    variance_G = sum_by(deviation_R.square() * count_R, index_R, size) / (total_G - 1).clamp(min=1)
    divisor_G = torch.ones_like(variance_G) if eps is None else variance_G.sqrt() + eps
    # A constant group has no deviation to speak of, only rounding; dividing that by a tiny number would make noise.
    is_constant_R = groups.is_constant_G[index_R]
    return torch.where(is_constant_R, 0.0, deviation_R / torch.where(groups.is_constant_G, 1.0, divisor_G)[index_R])


def sum_by(value_B: Tensor, index_B: Tensor, size: int) -> Tensor:
    """[size] the sum of the values with each index."""
    return torch.zeros(size, dtype=value_B.dtype, device=value_B.device).index_add(0, index_B, value_B)
