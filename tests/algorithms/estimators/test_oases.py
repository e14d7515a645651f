"""Process rewards: the worked numbers of the specification, and what must not change them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.cases import random_batch, rewards_of, token_table
from askesis.algorithms import RewardBatch, TokenBatch, build

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=5)


def search(values: list[float], outcome: float, *, critic: list[float] | None = None) -> tuple[RewardBatch, TokenBatch]:
    """One trajectory of len(values) - 1 searches and an answer, a turn of two tokens each."""
    turns = len(values)
    gains = [b - a for a, b in itertools.pairwise(values)] + [0.0]

    def twice(numbers: list[float]) -> list[list[float]]:
        return [[x for number in numbers for x in (number, number)]]

    tokens = token_table(
        [[t for t in range(turns) for _ in range(2)]],
        value=twice([0.0] * turns if critic is None else critic),
        gain=twice(gains),
        step_reward=twice([0.0] * (turns - 1) + [outcome]),
    )
    return rewards_of([outcome]), replace(tokens, state_BT=tokens.turn_BT.clamp(min=0))


def advantages(batch: tuple[RewardBatch, TokenBatch], name: str = "oases", **options: object) -> torch.Tensor:
    rewards, tokens = batch
    whiten: dict[str, object] = {} if name == "oases_grpo" else {"whiten_advantages": False}
    algorithm = build(name, {"kl_beta": 0.0, **whiten, **options})
    return algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT


def at_ends(advantage_BT: torch.Tensor) -> list[float]:
    """Of each turn's last token."""
    return [float(x) for x in advantage_BT[0, 1::2]]


def test_7a_1_returns_to_go() -> None:
    batch = search([0, 0.4, 0.4, 1.0], 1.0)
    got = advantages(batch)
    assert at_ends(got) == pytest.approx([1.5, 1.3, 1.3, 1.0])
    assert got[0, ::2].tolist() == pytest.approx([1.5, 1.3, 1.3, 1.0])  # the same at both tokens of a turn
    process = [b - a for a, b in itertools.pairwise([*at_ends(got)])]
    assert [-x for x in process] == pytest.approx([0.2, 0.0, 0.3]) and -sum(process) == pytest.approx(0.5)


def test_7a_2_only_the_harmful_search_is_punished() -> None:
    batch = search([0, 0.8, 0.2, 0.2], 0.0)
    assert at_ends(advantages(batch)) == pytest.approx([0.1, -0.3, 0.0, 0.0])


def test_7a_3_with_a_critic() -> None:
    # Turns of one token: the critic says one number a turn.
    values, critic = [0, 0.4, 0.4, 1.0], [0.5, 0.6, 0.6, 0.9]
    gains = [0.4, 0.0, 0.6, 0.0]
    tokens = token_table([[0, 1, 2, 3]], value=[critic], gain=[gains], step_reward=[[0.0, 0.0, 0.0, 1.0]])
    batch = rewards_of([1.0]), replace(tokens, state_BT=torch.tensor([[0, 1, 2, 3]]))
    assert len(values) == len(critic)
    assert advantages(batch)[0].tolist() == pytest.approx([1.0, 0.7, 0.7, 0.1])
    got = advantages(batch, process_credit="gae_lambda", gae_lambda=0.95)
    assert got[0].tolist() == pytest.approx([0.9272375, 0.66025, 0.695, 0.1])


def test_immediate_credit_is_the_turns_own_gain_and_the_outcome() -> None:
    got = advantages(search([0, 0.8, 0.2, 0.2], 1.0, critic=[0.1, 0.2, 0.3, 0.4]), process_credit="immediate")
    assert at_ends(got) == pytest.approx([1.4 - 0.1, 0.7 - 0.2, 1.0 - 0.3, 1.0 - 0.4])
    assert got[0, ::2].tolist() == pytest.approx(at_ends(got))


def test_the_critic_is_told_the_return_that_the_credit_means() -> None:
    rewards, tokens = search([0, 0.4, 1.0], 1.0, critic=[0.3, 0.1, 0.2])
    for kind, expected in (("return_to_go", [1.5, 1.3, 1.0]), ("immediate", [1.2, 1.3, 1.0])):
        algorithm = build("oases", {"kl_beta": 0.0, "process_credit": kind})
        got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).return_BT
        assert got is not None and got[0, 1::2].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_7a_4_without_weight_it_is_plain_gae_bit_for_bit(seed: int) -> None:
    batch = random_batch(seed)
    rewards, tokens = batch
    got, plain = (
        build(name, {"kl_beta": 0.0, **more}) for name, more in (("oases", {"process_weight": 0}), ("ppo", {}))
    )
    one = got.credit(got.advantages(rewards), rewards, tokens)
    other = plain.credit(plain.advantages(rewards), rewards, replace(tokens, gain_BT=None, state_BT=None))
    assert torch.equal(one.advantage_BT, other.advantage_BT)
    assert one.return_BT is not None and other.return_BT is not None
    assert torch.equal(one.return_BT, other.return_BT)


@settings(max_examples=40, deadline=None)
@given(values=VALUES, outcome=st.floats(0, 1), shift=st.floats(-3, 3))
def test_7a_7_a_constant_on_all_values_changes_nothing_and_rewards_telescope(
    values: list[float], outcome: float, shift: float
) -> None:
    got = at_ends(advantages(search(values, outcome)))
    moved = at_ends(advantages(search([v + shift for v in values], outcome)))
    assert moved == pytest.approx(got, abs=1e-9)
    process = [a - b for a, b in itertools.pairwise(got)]
    assert all(-0.5 - 1e-9 <= r <= 0.5 + 1e-9 for r in process)
    for turn, total in enumerate(got):
        before = values[turn]
        assert total == pytest.approx(outcome + 0.5 * (values[-1] - before), abs=1e-9)
    assert -0.5 - 1e-9 <= got[0] <= 1.5 + 1e-9


@given(values=st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=6))
@settings(max_examples=20, deadline=None)
def test_7a_7_exact_match_gives_three_rewards(values: list[float]) -> None:
    got = at_ends(advantages(search(values, 0.0)))
    assert {round(a - b, 9) for a, b in itertools.pairwise(got)} <= {-0.5, 0.0, 0.5}


def moments(weighting: str) -> tuple[float, float]:
    """Mean and variance of d/dlogit_1 over the four outcomes of two turns that succeed with probability 1/2 each.

    v after g good turns is g / 2 and the outcome is v_2; the score of turn 1's logit is good - 1/2.
    """
    samples = []
    for first, second in itertools.product((0, 1), repeat=2):
        values = [0.0, first / 2, (first + second) / 2]
        kind = {"process_weight": 0.0} if weighting == "outcome" else {"process_credit": weighting}
        samples.append((first - 0.5) * at_ends(advantages(search(values, values[-1]), **kind))[0])
    mean = sum(samples) / 4
    return mean, sum((x - mean) ** 2 for x in samples) / 4


@pytest.mark.parametrize(
    ("weighting", "mean", "variance"),
    [("outcome", 0.125, 0.078125), ("return_to_go", 0.1875, 0.17578125), ("immediate", 0.1875, 0.11328125)],
)
def test_7a_9_the_gradient_by_enumeration(weighting: str, mean: float, variance: float) -> None:
    assert moments(weighting) == pytest.approx((mean, variance))


def test_7a_9_the_state_as_baseline_cuts_the_variance_nine_times() -> None:
    # Turn 2 after a good first turn: v_1 = 0.5, v_2 = 0.5 or 1.
    def second_turn(base: float) -> tuple[float, float]:
        drawn = [(good - 0.5) * 0.5 * ((1 + good) / 2 - base) for good in (0, 1)]
        mean = sum(drawn) / 2
        return mean, sum((x - mean) ** 2 for x in drawn) / 2

    with_state, without = second_turn(0.5), second_turn(0.0)
    assert with_state == pytest.approx((0.0625, 0.00390625)) and without == pytest.approx((0.0625, 0.03515625))
    # The same from the estimator: the immediate credit of turn 2, its outcome taken away.
    for good in (0, 1):
        batch = search([0.0, 0.5, (1 + good) / 2], 0.0)
        assert at_ends(advantages(batch, process_credit="immediate"))[1] == pytest.approx(0.5 * good / 2)


def test_answers_from_states_have_their_own_reward_and_are_whitened_by_themselves() -> None:
    _, tokens = search([0, 1.0], 1.0)
    answer = token_table([[0, 0, 0, 0]], value=[[0.0] * 4], gain=[[0.0] * 4], step_reward=[[0.7] * 4])
    both = TokenBatch(
        mask_BT=torch.cat([tokens.mask_BT, torch.tensor([[True, True, False, False]])]),
        sequence_B=torch.tensor([0, 1]),
        turn_BT=torch.cat([tokens.turn_BT, answer.turn_BT]),
        logp_behaviour_BT=torch.cat([tokens.logp_behaviour_BT, answer.logp_behaviour_BT]),
        value_BT=torch.zeros(2, 4, dtype=torch.float64),
        step_reward_BT=torch.cat([tokens.step_reward_BT, answer.step_reward_BT]),  # type: ignore[list-item]
        state_BT=torch.cat([tokens.state_BT, torch.zeros(1, 4, dtype=torch.int64)]),  # type: ignore[list-item]
        gain_BT=torch.cat([tokens.gain_BT, answer.gain_BT]),  # type: ignore[list-item]
    )
    all_rewards = rewards_of([1.0, 0.7], [0, 1], is_answer_B=torch.tensor([False, True]))
    got = advantages((all_rewards, both))
    assert got[1].tolist() == pytest.approx([0.7, 0.7, 0.0, 0.0])
    algorithm = build("oases", {"kl_beta": 0.0})
    report = algorithm.advantages(all_rewards)
    assert report.num_groups == 1 and report.moving_reward == 1.0  # of trajectories only
    white = algorithm.credit(report, all_rewards, both).advantage_BT
    assert not white[1].any()  # two equal answers have nothing to learn from each other
    assert float(white[0].mean()) == pytest.approx(0.0, abs=1e-9)


def test_3_9_turns_are_compared_within_the_group() -> None:
    one, other = search([0, 0.4, 1.0], 1.0), search([0, 0.0], 0.0)
    width = one[1].mask_BT.shape[1]

    def wide(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (0, width - x.shape[1]))

    def both(name: str) -> torch.Tensor:
        return torch.cat([getattr(one[1], name), wide(getattr(other[1], name))])

    names = ("mask_BT", "turn_BT", "logp_behaviour_BT", "state_BT", "gain_BT")
    tokens = TokenBatch(sequence_B=torch.tensor([0, 1]), **{name: both(name) for name in names})
    got = advantages((rewards_of([1.0, 0.0]), tokens), "oases_grpo")
    returns = torch.tensor([1.5, 1.3, 1.0, 0.0, 0.0], dtype=torch.float64)
    expected = (returns - returns.mean()) / (returns.std() + 1e-6)
    assert got[0, 1::2].tolist() == pytest.approx(expected[:3].tolist())
    assert got[1, [1, 3]].tolist() == pytest.approx(expected[3:].tolist()) and not got[1, 4:].any()


def test_3_9_answers_of_one_state_are_a_group_and_one_alone_teaches_nothing() -> None:
    tokens = token_table([[0], [0], [0], [0], [0]], gain=[[0.0]] * 5)
    tokens = replace(tokens, state_BT=torch.zeros(5, 1, dtype=torch.int64))
    rewards = rewards_of([1.0, 0.0, 0.0, 1.0, 1.0], [5, 5, 5, 5, 6])
    got = advantages((rewards, tokens), "oases_grpo")
    assert got[:, 0].tolist() == pytest.approx([0.866024, -0.866024, -0.866024, 0.866024, 0.0], abs=1e-5)
