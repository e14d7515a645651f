"""Statistics of groups by id."""

from __future__ import annotations

import torch

from askesis.algorithms.estimators.groups import group_statistics, sum_by


def test_ids_in_any_order_and_of_any_value() -> None:
    got = group_statistics(torch.tensor([1.0, 5.0, 3.0, 7.0]), torch.tensor([9, -4, 9, 2]))
    assert got.row_to_group_B.tolist() == [2, 0, 2, 1]
    assert got.size_G.tolist() == [1, 1, 2]
    assert got.mean_G.tolist() == [5.0, 7.0, 2.0] and got.mean_G.dtype == torch.float64
    assert got.is_constant_G.tolist() == [True, True, False]


def test_constancy_is_compared_not_computed() -> None:
    # A mean of equal numbers may be off by a rounding; the comparison is not.
    got = group_statistics(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.int64))
    assert got.is_constant_G.tolist() == [True]
    close = torch.tensor([0.1, torch.nextafter(torch.tensor(0.1), torch.tensor(1.0)).item()])
    assert group_statistics(close, torch.tensor([0, 0])).is_constant_G.tolist() == [False]


def test_negative_rewards_are_compared_among_themselves() -> None:
    got = group_statistics(torch.tensor([-1.0, -1.0, 2.0, 3.0]), torch.tensor([0, 0, 1, 1]))
    assert got.is_constant_G.tolist() == [True, False]


def test_sum_by_leaves_unnamed_places_zero() -> None:
    assert sum_by(torch.tensor([1, 2, 4]), torch.tensor([2, 0, 2]), 4).tolist() == [2, 0, 5, 0]
