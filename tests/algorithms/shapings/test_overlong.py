"""DAPO's length penalty: baselines-rlvr.md 3.2."""

from __future__ import annotations

import pytest
import torch

from algorithms.cases import rewards_of
from askesis.algorithms import build
from askesis.algorithms.shapings.overlong import overlong
from askesis.errors import AlgorithmError


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 0.0), (16384, 0.0), (17408, -0.25), (18432, -0.5), (20480, -1.0), (20481, -1.0)]
)
def test_3_2_worked_numbers(length: int, expected: float) -> None:
    rewards = rewards_of([0.5], length_B=torch.tensor([length]))
    got = overlong(rewards, overlong_limit=20480, overlong_cache=4096, overlong_penalty=1.0)
    assert got.tolist() == [0.5 + expected]
    half = overlong(rewards, overlong_limit=20480, overlong_cache=4096, overlong_penalty=0.5)
    assert half.tolist() == [0.5 + expected / 2]


def test_dapo_shapes_before_the_group_is_compared_and_counts_raw_groups() -> None:
    rewards = rewards_of([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1], length_B=torch.tensor([90, 100, 10, 10]))
    algorithm = build("dapo", {"overlong_limit": 100, "overlong_cache": 20})
    report = algorithm.advantages(rewards)
    # Rewards .5 and 0 in the first group, whose raw rewards are equal: dynamic sampling throws it away.
    assert report.advantage_B.tolist() == pytest.approx([0.707105, -0.707105, 0, 0], abs=1e-5)
    assert report.num_zero_variance_groups == 2 and algorithm.resamples_constant_groups
    with pytest.raises(AlgorithmError, match="needs length_B"):
        algorithm.advantages(rewards_of([1.0]))
