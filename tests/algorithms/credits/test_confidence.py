"""CW-NSR: a-nsr.md 7a, items 4 and 6."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from algorithms.cases import random_batch, rewards_of, token_table
from askesis.algorithms import Algorithm, TokenBatch, build

CW = build("cw_nsr")


def penalty(logp: list[float], overrides: dict[str, object] | None = None) -> float:
    """The size of the penalty of one wrong answer with these token log-probabilities."""
    tokens = token_table([[0] * len(logp)], logp_behaviour=[logp])
    algorithm = build("cw_nsr", overrides)
    rewards = rewards_of([0.0])
    advantage = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT
    assert (advantage == advantage[0, 0]).all()
    return -float(advantage[0, 0])


@pytest.mark.parametrize(
    ("logp", "expected"),
    [([-0.1, -0.2, -0.3], 0.818731), ([-2.0, -2.0, -2.0], 0.135335), ([-4.0, -4.0], 0.05), ([0.0], 1.0)],
)
def test_7a_6_weights(logp: list[float], expected: float) -> None:
    assert penalty(logp) == pytest.approx(expected, abs=1e-6)
    assert penalty(logp * 3) == pytest.approx(penalty(logp), rel=1e-12)


def test_7a_6_the_floor() -> None:
    assert penalty([-4.0, -4.0], {"confidence_floor": 0}) == pytest.approx(0.018316, abs=1e-6)


def batch(confidences: list[float], lengths: list[int]) -> TokenBatch:
    logp = [[math.log(c)] * n for c, n in zip(confidences, lengths, strict=True)]
    return token_table([[0] * n for n in lengths], logp_behaviour=logp)


def test_7a_6_batch() -> None:
    tokens = batch([0.8, 0.9, 0.02, 0.7], [4, 2, 3, 1])
    rewards = rewards_of([1.0, 0.0, 0.0, 1.0])
    report = CW.credit(CW.advantages(rewards), rewards, tokens)
    assert report.advantage_BT[:, 0].tolist() == pytest.approx([0.1, -0.9, -0.05, 0.1])
    weight_BT = CW.token_weights(tokens.mask_BT, tokens.sequence_B)
    # On-policy the loss is minus the weighted sum of advantages.
    assert -float((weight_BT * report.advantage_BT).sum()) == pytest.approx(0.145, abs=1e-6)
    assert report.diagnostics == {
        "confidence_wrong": pytest.approx((0.9 + 0.02) / 2),
        "confidence_right": pytest.approx((0.8 + 0.7) / 2),
    }


def advantages(algorithm: Algorithm, seed: int) -> torch.Tensor:
    rewards, tokens = random_batch(seed)
    return algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT


@pytest.mark.parametrize("seed", range(3))
def test_7a_4_a_floor_of_one_is_w_reinforce(seed: int) -> None:
    floored = advantages(build("cw_nsr", {"confidence_floor": 1}), seed)
    assert torch.equal(floored, advantages(build("w_reinforce"), seed))
    assert not torch.equal(advantages(CW, seed), floored)


@pytest.mark.parametrize("seed", range(3))
def test_it_composes_with_the_schedule(seed: int) -> None:
    both, schedule, weight, plain = (
        advantages(build(name), seed) for name in ("a_cw_nsr", "a_nsr", "cw_nsr", "w_reinforce")
    )
    wrong = plain < 0
    assert torch.allclose(both[wrong], schedule[wrong] * -weight[wrong])
    assert torch.equal(both[~wrong], schedule[~wrong])


def test_a_turn_may_be_judged_by_itself() -> None:
    tokens = token_table([[0, 0, 1]], logp_behaviour=[[-1.0, -2.0, -0.5]])
    rewards = rewards_of([0.0])
    for per_turn, expected in ((True, [-1.5, -1.5, -0.5]), (False, [-3.5 / 3] * 3)):
        algorithm = build("cw_nsr", {"confidence_per_turn": per_turn})
        got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT[0]
        assert got.tolist() == pytest.approx([-math.exp(x) for x in expected])


def test_weights_of_mean_one_keep_the_mean_penalty() -> None:
    tokens = batch([0.8, 0.9, 0.1], [1, 3, 2])
    rewards = rewards_of([1.0, 0.0, 0.0])
    algorithm = build("cw_nsr", {"confidence_mean_one": True})
    got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT[:, 0]
    assert got.tolist() == pytest.approx([0.1, -1.8, -0.2])
    right = replace(rewards, reward_B=torch.ones(3, dtype=torch.float64))
    assert algorithm.credit(algorithm.advantages(right), right, tokens).advantage_BT[:, 0].tolist() == [0.1] * 3


def test_nothing_sampled_changes_nothing() -> None:
    tokens = token_table([[0, 0]])
    empty = replace(tokens, mask_BT=torch.zeros_like(tokens.mask_BT))
    rewards = rewards_of([0.0])
    report = CW.credit(CW.advantages(rewards), rewards, empty)
    assert not report.advantage_BT.any() and report.diagnostics == {}
