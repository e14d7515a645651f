"""DGPO: dgpo.md 7a, items 3 to 9. (1, 2 and 10 are in test_distributions.)"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.cases import gradient, random_batch, random_inputs, rewards_of, token_table
from askesis.algorithms import TokenBatch, build, entropy, hellinger
from askesis.algorithms.credits.dgpo_hellinger import softmax_weights

POLICY = torch.tensor([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [0.4, 0.4, 0.2]], dtype=torch.float64).log()
REFERENCE = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], dtype=torch.float64).log()


def weights(scores: list[float], tau: float = 0.5) -> list[float]:
    score_N = torch.tensor(scores, dtype=torch.float64)
    values: list[float] = softmax_weights(score_N / tau, torch.zeros(len(scores), dtype=torch.int64)).tolist()
    return values


def credited(tokens: TokenBatch, overrides: dict[str, object] | None = None, reward: float = 1.0) -> torch.Tensor:
    algorithm = build("reinforce", {"credit": "dgpo_hellinger"} | (overrides or {}))
    rewards = rewards_of([reward] * (int(tokens.sequence_B.max()) + 1))
    return algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT


def test_7a_3_weights_and_advantages() -> None:
    scores = [0.0, 0.1, 0.4, 0.02]
    assert weights(scores) == pytest.approx([0.728896, 0.890275, 1.622187, 0.758642], abs=1e-6)
    assert sum(weights(scores)) / 4 == pytest.approx(1.0, abs=1e-12)
    # With one token in the vocabulary's entropy everywhere, the score is the distance.
    tokens = token_table([[0] * 4], vocab_size=2, hellinger=[scores], entropy=[[math.log(2)] * 4])
    expected = [-0.874675, -1.068330, -1.946624, -0.910371]
    assert credited(tokens, reward=-1.2)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_7a_4_extremes_and_padding() -> None:
    assert weights([1.0, 0.0, 0.0, 0.0]) == pytest.approx([2.844938] + [0.385021] * 3, abs=1e-6)
    columns = {"hellinger": [[0.02, 0.3, 0.1, 0.0], [0.5] * 5], "entropy": [[math.log(2)] * 4, [0.1] * 5]}
    tokens = token_table([[0] * 4, [0] * 5], vocab_size=2, **columns)
    expected = [0.818838, 1.433517, 0.960915, 0.786731, 0.0]
    assert credited(tokens)[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kappa", "expected"),
    [
        (1.0, [0.997555, 1.045230, 0.957215]),
        (0.0, [0.709824, 1.610936, 0.679240]),
        (2.0, [1.022927, 0.992965, 0.984108]),
    ],
)
def test_7a_5_the_gate_calms_a_confident_jump(kappa: float, expected: list[float]) -> None:
    distance, uncertainty = hellinger(POLICY, REFERENCE), entropy(POLICY)
    assert distance.tolist() == pytest.approx([0.022022, 0.431798, 0.0], abs=1e-6)
    assert (uncertainty / math.log(3)).tolist() == pytest.approx([0.937231, 0.101858, 0.960230], abs=1e-6)
    columns = {"hellinger": [distance.tolist()], "entropy": [uncertainty.tolist()]}
    tokens = token_table([[0, 0, 0]], vocab_size=3, **columns)
    assert credited(tokens, {"dgpo_kappa": kappa})[0].tolist() == pytest.approx(expected, abs=1e-6)


def grpo_and_dgpo(tokens: TokenBatch, seed: int, overrides: dict[str, object]) -> tuple[torch.Tensor, torch.Tensor]:
    rewards, _ = random_batch(seed)
    first, second = (
        a.credit(a.advantages(rewards), rewards, tokens).advantage_BT
        for a in (build("grpo", {"kl_beta": 0}), build("dgpo_hellinger", overrides))
    )
    return first, second


@pytest.mark.parametrize("seed", range(3))
def test_7a_6_reductions_to_grpo(seed: int) -> None:
    _, tokens = random_batch(seed)
    at_reference = replace(tokens, hellinger_BT=torch.zeros_like(tokens.turn_BT, dtype=torch.float64))
    plain, guided = grpo_and_dgpo(at_reference, seed, {})
    assert torch.equal(plain, guided)
    plain, guided = grpo_and_dgpo(tokens, seed, {"dgpo_tau": 1e12})
    assert torch.allclose(plain, guided, rtol=1e-9)
    each_its_own = replace(tokens, turn_BT=torch.arange(tokens.turn_BT.numel()).view_as(tokens.turn_BT))
    plain, guided = grpo_and_dgpo(each_its_own, seed, {"dgpo_tau": 0.1})
    assert torch.allclose(plain, guided, rtol=1e-9)
    assert build("dgpo_hellinger").kl.beta == 0


@pytest.mark.parametrize("seed", range(3))
def test_7a_7_the_sum_over_each_response_stays(seed: int) -> None:
    _, tokens = random_batch(seed)
    plain, guided = grpo_and_dgpo(tokens, seed, {"dgpo_tau": 0.1})
    assert not torch.allclose(plain, guided)
    places = tokens.sequence_B[:, None] * 10 + tokens.turn_BT
    for place in places[tokens.mask_BT].unique():
        chosen = (places == place) & tokens.mask_BT
        assert float(guided[chosen].sum()) == pytest.approx(float(plain[chosen].sum()), rel=1e-12)
    # So the value of the loss stays, and its gradient does not.
    algorithm = build("dgpo_hellinger")
    weight_BT = algorithm.token_weights(tokens.mask_BT, tokens.sequence_B)
    assert float((weight_BT * guided).sum()) == pytest.approx(float((weight_BT * plain).sum()), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.sampled_from([0.5, 1.0]), st.floats(0.01, 1))
def test_7a_8_monotone_shift_invariant_and_bounded(scores: list[float], tau: float, more: float) -> None:
    before, num = weights(scores, tau), len(scores)
    after = weights([scores[0] + more, *scores[1:]], tau)
    assert after[0] > before[0] and all(a < b for a, b in zip(after[1:], before[1:], strict=True))
    assert weights([s + 5 for s in scores], tau) == pytest.approx(before, rel=1e-9)
    edge = math.exp(1 / tau)
    assert num / (1 + (num - 1) * edge) - 1e-12 <= min(before)
    assert max(before) <= num * edge / (edge + num - 1) + 1e-12


@pytest.mark.parametrize(("num", "low", "high"), [(4, 0.173, 2.845), (32, 0.139, 6.159), (1000, 0.1355, 7.342)])
def test_section_3_3_bounds_at_the_default_tau(num: int, low: float, high: float) -> None:
    assert max(weights([1.0] + [0.0] * (num - 1))) == pytest.approx(high, abs=6e-4)
    assert min(weights([0.0] + [1.0] * (num - 1))) == pytest.approx(low, abs=6e-4)


def test_7a_9_no_gradient_flows_through_the_weights() -> None:
    rewards, tokens = random_batch(0)
    leaves = {
        name: getattr(tokens, name).clone().requires_grad_() for name in ("hellinger_BT", "entropy_BT", "logp_ref_BT")
    }
    algorithm = build("dgpo_hellinger")
    advantage_BT = algorithm.credit(algorithm.advantages(rewards), rewards, replace(tokens, **leaves)).advantage_BT
    assert not advantage_BT.requires_grad
    inputs, leaf = random_inputs(algorithm, 0, *tokens.mask_BT.shape)
    inputs = replace(inputs, advantage_BT=advantage_BT, mask_BT=tokens.mask_BT)
    constant = replace(inputs, advantage_BT=torch.tensor(advantage_BT.tolist(), dtype=torch.float64))
    losses = [algorithm.loss(x).loss for x in (inputs, constant)]
    assert torch.equal(gradient(losses[0], leaf), gradient(losses[1], leaf))


def test_options_that_are_not_the_papers() -> None:
    columns = {"hellinger": [[0.04, 0.09, 0.0]], "entropy": [[0.5, 1.0, 0.25]]}
    tokens = token_table([[0, 0, 1]], vocab_size=1000, **columns)
    plain = softmax_weights(torch.tensor([0.04 * 0.5, 0.09 * 1.0], dtype=torch.float64) / 0.5, torch.tensor([0, 0]))
    got = credited(tokens, {"dgpo_max_entropy": "response_max"})[0]
    assert got.tolist() == pytest.approx([*plain.tolist(), 1.0])
    rooted = softmax_weights(torch.tensor([0.2, 0.3], dtype=torch.float64) / 0.5, torch.tensor([0, 0]))
    assert credited(tokens, {"dgpo_root": True, "dgpo_kappa": 0})[0].tolist() == pytest.approx([*rooted.tolist(), 1.0])
    whole = weights([0.04, 0.09, 0.0])
    got = credited(tokens, {"dgpo_whole_trajectory": True, "dgpo_kappa": 0})[0]
    assert got.tolist() == pytest.approx(whole)


def test_diagnostics_say_how_far_the_weights_are_from_one() -> None:
    tokens = token_table([[0] * 4], vocab_size=3, hellinger=[[1.0, 0.0, 0.0, 0.0]], entropy=[[math.log(3)] * 4])
    algorithm = build("dgpo_hellinger")
    rewards = rewards_of([1.0])
    got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).diagnostics
    w = [2.844938] + [0.385021] * 3
    assert got == {
        "dgpo_weight_std": pytest.approx(math.sqrt(sum((x - 1) ** 2 for x in w) / 4), abs=1e-6),
        "dgpo_weight_max": pytest.approx(w[0], abs=1e-6),
        "dgpo_weight_top_tenth": pytest.approx(w[0] / 4, abs=1e-6),
        "dgpo_distance": pytest.approx(0.25),
        "dgpo_gate": pytest.approx(1.0),
    }
    empty = replace(tokens, mask_BT=torch.zeros_like(tokens.mask_BT))
    assert algorithm.credit(algorithm.advantages(rewards), rewards, empty).diagnostics == {}
