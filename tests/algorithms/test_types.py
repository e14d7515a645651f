"""Sums add up before they are divided."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from askesis.algorithms import RewardBatch, Sums, add_diagnostics


def sums(total: float, count: int) -> Sums:
    return Sums(total=torch.tensor(total), count=torch.tensor(count))


def test_the_mean_of_a_sum_weighs_every_token_the_same() -> None:
    # Two tokens of mean 3 and six of mean 1: (6 + 6) / 8, not (3 + 1) / 2.
    assert (sums(6.0, 2) + sums(6.0, 6)).mean() == 1.5


def test_the_mean_of_nothing_is_not_computed() -> None:
    assert sums(0.0, 0).mean() is None


def test_diagnostics_add_by_name_and_keep_names_that_one_part_lacks() -> None:
    whole = add_diagnostics([{"a": sums(1.0, 1), "b": sums(2.0, 4)}, {"a": sums(5.0, 3)}])
    assert whole["a"].mean() == 1.5 and whole["b"].mean() == 0.5
    assert add_diagnostics([]) == {}


def test_records_are_frozen() -> None:
    batch = RewardBatch(reward_B=torch.zeros(1), group_B=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.reward_B = torch.ones(1)  # type: ignore[misc]
