"""GAE: where rewards are paid, what a critic takes away, and what it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from algorithms.cases import rewards_of, token_table
from askesis.algorithms import CreditReport, RewardBatch, TokenBatch, build
from askesis.errors import RecipeError

RAW: dict[str, object] = {"whiten_advantages": False, "kl_beta": 0.0}


def credit(rewards: RewardBatch, tokens: TokenBatch, **options: object) -> CreditReport:
    algorithm = build("ppo", {**RAW, **options})
    return algorithm.credit(algorithm.advantages(rewards), rewards, tokens)


def test_7a_3_the_worked_numbers_of_oases() -> None:
    # The four reward positions of case 1 as four turns of one token: 0.2, 0.0, 0.3 and the outcome 1.
    tokens = token_table([[0, 1, 2, 3]], value=[[0.5, 0.6, 0.6, 0.9]], step_reward=[[0.2, 0.0, 0.3, 1.0]])
    rewards = rewards_of([1.0])
    assert credit(rewards, tokens).advantage_BT[0].tolist() == pytest.approx([1.0, 0.7, 0.7, 0.1])
    shorter = credit(rewards, tokens, gae_lambda=0.95)
    assert shorter.advantage_BT[0].tolist() == pytest.approx([0.9272375, 0.66025, 0.695, 0.1])
    assert shorter.return_BT is not None
    assert shorter.return_BT[0].tolist() == pytest.approx([1.4272375, 1.26025, 1.295, 1.0])


def test_the_reward_of_a_turn_is_paid_once_at_its_last_token() -> None:
    tokens = token_table([[0, 0, 1, 1, 1]], value=[[0.0] * 5], step_reward=[[0.2, 0.2, 1.0, 1.0, 1.0]])
    got = credit(rewards_of([1.0]), tokens, gamma=0.5)
    # Backwards: 1, 0.5, 0.25; then 0.2 + 0.125, and half of that.
    assert got.advantage_BT[0].tolist() == pytest.approx([0.1625, 0.325, 0.25, 0.5, 1.0])


def test_what_lies_between_two_turns_takes_no_part() -> None:
    one_row = token_table([[0, 0, 1]], value=[[0.1, 0.2, 0.3]], step_reward=[[0.0, 0.0, 1.0]])
    two_rows = token_table([[0, 0], [1]], [0, 0], value=[[0.1, 0.2], [0.3]], step_reward=[[0.0, 0.0], [1.0]])
    whole = credit(rewards_of([1.0]), one_row, gae_lambda=0.7).advantage_BT
    parts = credit(rewards_of([1.0]), two_rows, gae_lambda=0.7).advantage_BT
    assert parts[two_rows.mask_BT].tolist() == pytest.approx(whole[0].tolist())


def test_shaping_and_a_kl_penalty_are_paid_at_the_end() -> None:
    tokens = token_table([[0, 1]], value=[[0.0, 0.0]], step_reward=[[0.3, 0.7]])
    rewards = replace(rewards_of([1.0]), kl_B=torch.tensor([2.0], dtype=torch.float64))
    got = credit(rewards, tokens, kl_beta=0.1, gae_lambda=1.0)
    assert got.advantage_BT[0].tolist() == pytest.approx([0.8, 0.5])


def test_a_perfect_critic_leaves_nothing_to_learn_and_is_told_what_it_said() -> None:
    tokens = token_table([[0, 0]], value=[[1.0, 1.0]], step_reward=[[1.0, 1.0]])
    got = credit(rewards_of([1.0]), tokens)
    assert got.return_BT is not None
    assert got.advantage_BT[0].tolist() == [0.0, 0.0] and got.return_BT[0].tolist() == [1.0, 1.0]


def test_advantages_are_whitened_over_sampled_tokens_and_returns_are_not() -> None:
    tokens = token_table([[0, 0, 0], [0]], value=[[0.0] * 3, [0.0]], step_reward=[[1.0] * 3, [0.0]])
    got = credit(rewards_of([1.0, 0.0]), tokens, whiten_advantages=True)
    assert got.return_BT is not None
    drawn = got.advantage_BT[tokens.mask_BT]
    assert float(drawn.mean()) == pytest.approx(0.0, abs=1e-9) and float(drawn.var()) == pytest.approx(1.0, abs=1e-6)
    assert got.return_BT.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_dropped_trajectory_teaches_the_critic_nothing_either() -> None:
    tokens = token_table([[0, 0], [0, 0]], value=[[0.3, 0.4]] * 2, step_reward=[[1.0, 1.0]] * 2)
    rewards = replace(rewards_of([1.0, 1.0]), truncated_B=torch.tensor([True, False]))
    got = credit(rewards, tokens, drop_truncated=True)
    assert got.return_BT is not None
    assert got.advantage_BT[0].tolist() == [0.0, 0.0] and got.return_BT.tolist() == [[0.3, 0.4], [1.0, 1.0]]


def test_values_and_rewards_need_a_critic() -> None:
    algorithm = build("ppo")
    assert algorithm.has_critic and not algorithm.has_states and not build("grpo").has_critic


@pytest.mark.parametrize(("name", "value"), [("gamma", 1.1), ("gae_lambda", -0.1), ("gamma", "x")])
def test_constants_out_of_range(name: str, value: object) -> None:
    with pytest.raises(RecipeError, match=name) as caught:
        build("ppo", {name: value})
    assert caught.value.expected == "a finite number of at least 0 and at most 1"
