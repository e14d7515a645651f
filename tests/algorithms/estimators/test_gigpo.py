"""GiGPO: baselines-rlvr.md 2.6."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from algorithms.cases import random_batch, rewards_of, token_table
from askesis.algorithms import Algorithm, RewardBatch, TokenBatch, build
from askesis.errors import AlgorithmError

# Trajectory a visits s0, s1, s0, s2 and gets 10 at the end; b visits s0, s1, s3 and gets 0. Two tokens a turn for a.
TOKENS = token_table(
    [[0, 0, 1, 1], [2, 2, 3, 3], [0, 1, 2]],
    [0, 0, 1],
    anchor=[[0, 0, 1, 1], [0, 0, 2, 2], [0, 1, 3]],
    step_reward=[[0, 0, 0, 0], [0, 0, 10, 10], [0, 0, 0]],
)
REWARDS = rewards_of([10.0, 0.0], num_turns_B=torch.tensor([4, 3]))


def credit(algorithm: Algorithm, rewards: RewardBatch = REWARDS, tokens: TokenBatch = TOKENS) -> list[float]:
    got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT
    values: list[float] = got[tokens.mask_BT].tolist()
    return values


def by_turn(values: list[float]) -> list[float]:
    """The seven turns' values, each of a's two tokens having the same."""
    assert values[0:8:2] == values[1:8:2]
    return values[0:8:2] + values[8:]


@pytest.mark.parametrize(
    ("normaliser", "step", "episode"),
    [
        ("none", [2.549167, 4.5125, 3.475417, 0, -6.024583, -4.5125, 0], 5.0),
        ("std", [0.486672, 0.707107, 0.663506, 0, -1.150178, -0.707107, 0], 0.707107),
    ],
)
def test_2_6_worked_example(normaliser: str, step: list[float], episode: float) -> None:
    overrides = {"normaliser": normaliser, "advantage_eps": 0}
    whole = by_turn(credit(build("gigpo", overrides)))
    expected = [s + (episode if turn < 4 else -episode) for turn, s in enumerate(step)]
    assert whole == pytest.approx(expected, abs=1e-5)
    without_step = by_turn(credit(build("gigpo", {**overrides, "step_weight": 0})))
    assert without_step == pytest.approx([episode] * 4 + [-episode] * 3, abs=1e-6)
    twice = by_turn(credit(build("gigpo", {**overrides, "step_weight": 2})))
    assert [t - w for t, w in zip(twice, whole, strict=True)] == pytest.approx(step, abs=1e-5)


@pytest.mark.parametrize(("normaliser", "expected"), [("none", [4.285714, -5.714286]), ("std", [0.801784, -1.069045])])
def test_2_6_statistics_over_turns(normaliser: str, expected: list[float]) -> None:
    algorithm = build("gigpo", {"normaliser": normaliser, "statistics": "turn", "advantage_eps": 0})
    assert algorithm.advantages(REWARDS).advantage_B.tolist() == pytest.approx(expected, abs=1e-6)


def test_2_6_step_returns() -> None:
    # All turns share one anchor and nothing is divided: the differences are those of the returns.
    alike = replace(TOKENS, anchor_BT=torch.zeros_like(TOKENS.turn_BT))
    got = by_turn(credit(build("gigpo", {"normaliser": "none"}), tokens=alike))
    returns = [8.57375, 9.025, 9.5, 10.0, 0.0, 0.0, 0.0]
    mean = sum(returns) / 7
    assert got == pytest.approx([r - mean + (5 if t < 4 else -5) for t, r in enumerate(returns)], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_without_the_step_part_it_is_grpo(seed: int) -> None:
    rewards, tokens = random_batch(seed)
    grpo, gigpo = build("grpo", {"kl_beta": 0}), build("gigpo", {"step_weight": 0})
    assert credit(gigpo, rewards, tokens) == pytest.approx(credit(grpo, rewards, tokens), rel=1e-12)


def test_one_turn_from_one_state_has_a_step_part_equal_to_the_episode_part() -> None:
    tokens = token_table([[0], [0], [0]], anchor=[[5], [5], [5]], step_reward=[[2.0], [-1.0], [0.5]])
    rewards = rewards_of([2.0, -1.0, 0.5], num_turns_B=torch.tensor([1, 1, 1]))
    both, episode = (credit(build("gigpo", {"step_weight": w}), rewards, tokens) for w in (1, 0))
    assert both == pytest.approx([2 * value for value in episode], rel=1e-12)


def test_states_of_other_groups_are_not_compared() -> None:
    tokens = token_table([[0], [0], [0], [0]], anchor=[[5]] * 4, step_reward=[[1.0], [0.0], [7.0], [7.0]])
    rewards = rewards_of([1.0, 0.0, 7.0, 7.0], [1, 1, 0, 0], num_turns_B=torch.ones(4, dtype=torch.int64))
    got = credit(build("gigpo", {"normaliser": "none"}), rewards, tokens)
    assert got == [1.0, -1.0, 0.0, 0.0]


def test_equal_returns_give_exactly_nothing_and_a_group_of_one_its_reward() -> None:
    # The mean of 0.1, 0.1 and 0.1 is not 0.1, and a deviation without eps would be divided by next to nothing.
    assert (0.1 + 0.1 + 0.1) / 3 != 0.1
    tokens = token_table([[0]] * 4, anchor=[[5]] * 4, step_reward=[[0.1], [0.1], [0.1], [0.3]])
    rewards = rewards_of([0.1, 0.1, 0.1, 0.3], [0, 0, 0, 1], num_turns_B=torch.ones(4, dtype=torch.int64))
    assert credit(build("gigpo", {"advantage_eps": 0}), rewards, tokens) == [0.0, 0.0, 0.0, 0.3]


def test_what_is_missing_is_named() -> None:
    algorithm = build("gigpo")
    with pytest.raises(AlgorithmError, match="needs num_turns_B"):
        algorithm.advantages(replace(REWARDS, num_turns_B=None))
    with pytest.raises(AlgorithmError, match="needs anchor_BT, step_reward_BT"):
        credit(algorithm, tokens=replace(TOKENS, anchor_BT=None, step_reward_BT=None))
