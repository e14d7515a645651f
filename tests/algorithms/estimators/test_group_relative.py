"""RLOO, GRPO and Dr.GRPO against worked numbers and a slow reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.algorithms import RewardBatch
from askesis.algorithms.estimators.group_relative import dr_grpo, grpo, rloo

EPS = 1e-6
Estimator = Callable[[RewardBatch], torch.Tensor]


def grpo_default(batch: RewardBatch) -> torch.Tensor:
    return grpo(batch, advantage_eps=EPS)


ALL: dict[str, Estimator] = {"rloo": rloo, "grpo": grpo_default, "dr_grpo": dr_grpo}


def one_group(rewards: list[float], dtype: torch.dtype = torch.float32) -> RewardBatch:
    return RewardBatch(reward_B=torch.tensor(rewards, dtype=dtype), group_B=torch.full((len(rewards),), 3))


def successes(count: int) -> list[float]:
    return [1.0] * count + [0.0] * (8 - count)


@pytest.mark.parametrize(
    ("name", "rewards", "expected"),
    [
        ("rloo", [2, -1, 0.5, 3], [1.166667, -2.833333, -0.833333, 2.5]),
        ("rloo", [1, 0, 0, 1], [0.666667, -0.666667, -0.666667, 0.666667]),
        ("rloo", successes(1), [1.0] + [-0.142857] * 7),
        ("grpo", [1, 0, 0, 1], [0.866024, -0.866024, -0.866024, 0.866024]),
        ("grpo", [1, 0, 0, 0], [1.499997, -0.499999, -0.499999, -0.499999]),
        ("grpo", [2, -1, 0.5, 3], [0.5, -1.214285, -0.357143, 1.071428]),
        ("dr_grpo", [1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
    ],
)
def test_worked_numbers(name: str, rewards: list[float], expected: list[float]) -> None:
    assert ALL[name](one_group(rewards)).tolist() == pytest.approx(expected, abs=1.01e-6)


@pytest.mark.parametrize(
    ("count", "right", "wrong"),
    [(1, 2.4749, -0.3536), (2, 1.6202, -0.5401), (4, 0.9354, -0.9354), (7, 0.3536, -2.4749)],
)
def test_worked_numbers_of_eight(count: int, right: float, wrong: float) -> None:
    expected = [right] * count + [wrong] * (8 - count)
    assert grpo_default(one_group(successes(count))).tolist() == pytest.approx(expected, abs=1e-4)


def slow(name: str, rewards: list[float]) -> list[float]:
    """The formulas, one group, in plain Python floats."""
    n, mean = len(rewards), math.fsum(rewards) / len(rewards)
    if name == "dr_grpo":
        return [0.0 if min(rewards) == max(rewards) else r - mean for r in rewards]
    if n == 1:
        return list(rewards)
    if min(rewards) == max(rewards):
        return [0.0] * n
    if name == "rloo":
        return [r - (math.fsum(rewards) - r) / (n - 1) for r in rewards]
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (n - 1))
    return [(r - mean) / (std + EPS) for r in rewards]


values = st.floats(-10, 10, width=32) | st.sampled_from([0.0, 1.0])
groups = st.lists(
    st.lists(values, min_size=1, max_size=8) | st.builds(lambda r, n: [r] * n, values, st.integers(1, 8)),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25, deadline=None)
@given(data=groups, seed=st.integers(0, 1000))
def test_agrees_with_the_slow_reference_in_any_order(name: str, data: list[list[float]], seed: int) -> None:
    reward = torch.tensor([r for group in data for r in group], dtype=torch.float64)
    ids = torch.tensor([i * 7 - 9 for i, group in enumerate(data) for _ in group])
    expected = torch.tensor([a for group in data for a in slow(name, group)], dtype=torch.float64)
    order = torch.randperm(len(reward), generator=torch.Generator().manual_seed(seed))
    got = ALL[name](RewardBatch(reward_B=reward[order], group_B=ids[order]))
    assert torch.allclose(got, expected[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(reward=values, size=st.integers(2, 8))
def test_equal_rewards_give_exactly_zero(name: str, reward: float, size: int) -> None:
    assert ALL[name](one_group([reward] * size)).tolist() == [0.0] * size


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=40, deadline=None)
@given(rewards=st.lists(values, min_size=2, max_size=8))
def test_a_group_of_two_or_more_has_mean_zero(name: str, rewards: list[float]) -> None:
    advantage = ALL[name](one_group(rewards, torch.float64))
    assert abs(float(advantage.mean())) <= 1e-9 * max(1.0, float(advantage.abs().max()))


def test_a_group_of_one() -> None:
    assert rloo(one_group([0.7], torch.float64)).tolist() == [0.7]
    assert grpo_default(one_group([0.7], torch.float64)).tolist() == [0.7]
    assert dr_grpo(one_group([0.7], torch.float64)).tolist() == [0.0]


def test_zero_eps_does_not_divide_by_zero() -> None:
    assert grpo(one_group([0.3, 0.3]), advantage_eps=0.0).tolist() == [0.0, 0.0]


def test_grpo_does_not_see_the_scale_of_rewards() -> None:
    plain = grpo_default(one_group([1, 0, 0, 1, 1]))
    assert torch.allclose(grpo_default(one_group([1, -1, -1, 1, 1])), plain, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(values, min_size=2, max_size=8))
def test_rloo_is_dr_grpo_times_n_over_n_minus_one(rewards: list[float]) -> None:
    batch, n = one_group(rewards, torch.float64), len(rewards)
    assert torch.allclose(rloo(batch), n / (n - 1) * dr_grpo(batch), rtol=1e-12, atol=0)


def test_grpo_without_its_standard_deviation_is_dr_grpo() -> None:
    batch = one_group([2, -1, 0.5, 3], torch.float64)
    std = batch.reward_B.std()
    assert torch.allclose(grpo_default(batch) * (std + EPS), dr_grpo(batch))


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_and_the_dtype_of_the_rewards(name: str) -> None:
    batch = RewardBatch(reward_B=torch.tensor([1.0, 0.0, 2.0], requires_grad=True), group_B=torch.tensor([0, 0, 1]))
    advantage = ALL[name](batch)
    assert not advantage.requires_grad and advantage.dtype == torch.float32
