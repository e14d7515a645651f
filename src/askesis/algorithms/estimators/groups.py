"""Statistics of groups given by ids, never by position."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GroupStatistics", "group_statistics", "sum_by"]


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


def sum_by(value_B: Tensor, index_B: Tensor, size: int) -> Tensor:
    """[size] the sum of the values with each index."""
    return torch.zeros(size, dtype=value_B.dtype, device=value_B.device).index_add(0, index_B, value_B)
