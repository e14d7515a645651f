"""AEM: aem.md 7a, items 1 to 8."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from algorithms.cases import random_batch, rewards_of, token_table
from askesis.algorithms import build, entropy
from askesis.algorithms.modulators.aem import coefficients

H = [0.2, 0.5, 0.8, 1.4]
ALPHA = [1.452849, 1.131480, 0.881198, 0.534473]


def alphas(entropies: list[float], strength: float = 1.0, scope: list[int] | None = None) -> list[float]:
    alpha_R, _ = coefficients(
        torch.tensor(entropies, dtype=torch.float64),
        torch.tensor(scope or [0] * len(entropies)),
        strength=strength,
        min_range=0.1,
    )
    values: list[float] = alpha_R.tolist()
    return values


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (1.0, ALPHA),
        (0.5, [1.224055, 1.080224, 0.953295, 0.742427]),
        (2.0, [1.895963, 1.149960, 0.697486, 0.256591]),
        (0.0, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_7a_1_coefficients(strength: float, expected: list[float]) -> None:
    got = alphas(H, strength)
    assert got == pytest.approx(expected, abs=1e-6)
    assert sum(got) / 4 == pytest.approx(1.0, abs=1e-12)
    assert max(got) / min(got) == pytest.approx(math.exp(strength))


def test_7a_2_advantages() -> None:
    # Each response has a token above and one below its mean entropy; the last one's padding is not read.
    tokens = token_table([[0, 0, 1], [0], [0, 0]], [0, 1, 2], entropy=[[0.1, 0.3, 0.5], [0.8], [1.0, 1.8]])
    rewards = rewards_of([1.0, -1.0, -1.0])
    algorithm = build("reinforce", {"modulator": "aem"})
    report = algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    expected = [ALPHA[0], ALPHA[0], ALPHA[1], -ALPHA[2], -ALPHA[3], -ALPHA[3]]
    assert report.advantage_BT[tokens.mask_BT].tolist() == pytest.approx(expected, abs=1e-6)
    assert not report.advantage_BT[~tokens.mask_BT].any()
    assert report.diagnostics == {
        "aem_alpha_min": pytest.approx(ALPHA[3], abs=1e-6),
        "aem_alpha_max": pytest.approx(ALPHA[0], abs=1e-6),
        "aem_entropy": pytest.approx(0.725),
        "aem_flat_share": 0.0,
        "aem_alpha_advantage": pytest.approx((ALPHA[0] + ALPHA[1] - ALPHA[2] - ALPHA[3]) / 4, abs=1e-6),
    }


@pytest.mark.parametrize(
    ("entropies", "first", "last"),
    [
        ([0.3, 0.9], 1.462117, 0.537883),
        ([0.3] + [0.9] * 63, 2.647209, 0.973854),
        ([0.9] + [0.3] * 63, 0.371549, 1.009975),
    ],
)
def test_7a_3_bounds(entropies: list[float], first: float, last: float) -> None:
    got = alphas(entropies)
    assert (got[0], got[-1]) == (pytest.approx(first, abs=1e-6), pytest.approx(last, abs=1e-6))
    assert math.exp(-1) < min(got) and max(got) < math.e


def test_7a_4_a_small_range_is_noise() -> None:
    assert alphas([0.50, 0.55, 0.58, 0.59]) == [1.0] * 4
    assert alphas([0.7]) == [1.0]


def test_7a_4_shift_scale_order_and_other_groups_do_not_matter() -> None:
    assert alphas([h + 3 for h in H]) == pytest.approx(ALPHA, abs=1e-6)
    assert alphas([h * 7 for h in H]) == pytest.approx(ALPHA, abs=1e-6)
    assert alphas(H[::-1]) == pytest.approx(ALPHA[::-1], abs=1e-6)
    both = alphas([*H, 9.0, 8.0, 0.1], scope=[5] * 4 + [-1] * 3)
    assert both[:4] == pytest.approx(ALPHA, abs=1e-6) and sum(both[4:]) / 3 == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [1.0, -2.0])
def test_7a_4_no_advantage_changes_its_sign(seed: int, strength: float) -> None:
    rewards, tokens = random_batch(seed)
    plain, scaled = (
        a.credit(a.advantages(rewards), rewards, tokens).advantage_BT
        for a in (build("gigpo"), build("gigpo", {"modulator": "aem", "aem_lambda": strength}))
    )
    assert torch.equal(plain.sign(), scaled.sign()) and not torch.equal(plain, scaled)


def drift(pi: torch.Tensor, drawn: int, advantage: float) -> float:
    """How entropy changes when a natural-gradient step is made for one drawn response, by central differences."""
    direction = -advantage * torch.ones_like(pi)
    direction[drawn] += advantage / pi[drawn]
    high, low = (entropy((pi.log() + step * direction)[None]) for step in (1e-5, -1e-5))
    return float(high - low) / 2e-5


@pytest.mark.parametrize(("place", "expected"), [(0, 0.294), (1, -0.318), (2, 2.769)])
def test_7a_5_drift_examples(place: int, expected: float) -> None:
    pi = torch.tensor([0.1743, 0.4177, 0.0051, 0.0954, 0.2975, 0.01], dtype=torch.float64)
    assert drift(pi, place, 0.7) == pytest.approx(expected, abs=4e-3)


def test_7a_5_drift_is_advantage_times_relative_surprisal() -> None:
    logits = torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for pi, mean in zip(logits.softmax(1), entropy(logits), strict=True):
        for place in (pi > 0.1).nonzero()[:, 0].tolist():
            assert drift(pi, place, 0.7) == pytest.approx(0.7 * float(-pi[place].log() - mean), rel=1e-5, abs=1e-8)


def test_7a_6_the_entropy_of_a_response_is_the_expected_sum_of_its_token_entropies() -> None:
    generator = torch.Generator().manual_seed(4)
    first = torch.randn(4, dtype=torch.float64, generator=generator)
    second = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    joint = first.log_softmax(0)[:, None] + second.log_softmax(1)
    chained = entropy(first[None])[0] + (first.softmax(0) * entropy(second)).sum()
    assert float(entropy(joint.reshape(1, -1))) == pytest.approx(float(chained), abs=1e-9)


def test_7a_7_one_token_responses_have_no_expected_effect_on_entropy() -> None:
    # Their entropy depends on the state only, so alpha does, and the mean of A * (S - H) over the policy is 0.
    logits = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    mean_R = entropy(logits)
    alpha_R, _ = coefficients(mean_R, torch.zeros(5, dtype=torch.int64), strength=1.0, min_range=0.1)
    assert alpha_R.std() > 0.1
    surprisal = -logits.log_softmax(1) - mean_R[:, None]
    assert (alpha_R[:, None] * logits.softmax(1) * surprisal).sum(1).abs().max() < 1e-12


def mechanism(advantage: float, overrides: dict[str, object], repetitions: int = 1000) -> float:
    """z-score of the change of entropy after one policy-gradient step: 8 states, 8 responses of 2 tokens each."""
    generator = torch.Generator().manual_seed(6)
    shape = (repetitions, 8)
    scale = 0.3 + 2.7 * torch.rand(8, 1, generator=generator)
    first = (scale * torch.randn(8, 5, generator=generator)).expand(*shape, 5)
    second = (scale[..., None] * torch.randn(8, 5, 5, generator=generator)).expand(*shape, 5, 5)
    y1 = torch.multinomial(first.softmax(-1).reshape(-1, 5), 8, True, generator=generator).view(*shape, 8)
    chosen = second.gather(2, y1[..., None].expand(*shape, 8, 5))
    y2 = torch.multinomial(chosen.softmax(-1).reshape(-1, 5), 1, True, generator=generator).view(*shape, 8)
    num = repetitions * 64
    token_entropy = torch.stack([entropy(first.reshape(-1, 5)).repeat_interleave(8), entropy(chosen.reshape(-1, 5))], 1)
    tokens = replace(
        token_table([[0, 0]]),
        mask_BT=torch.ones(num, 2, dtype=torch.bool),
        sequence_B=torch.arange(num),
        turn_BT=torch.zeros(num, 2, dtype=torch.int64),
        logp_behaviour_BT=torch.zeros(num, 2),
        entropy_BT=token_entropy,
    )
    rewards = replace(rewards_of([0.0]), reward_B=torch.full((num,), advantage), group_B=torch.arange(num) // 64)
    algorithm = build("reinforce", overrides)
    weight = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT[:, 0].view(*shape, 8, 1)
    lr = 0.5 / 64
    one_hot = torch.nn.functional.one_hot
    new_first = first + lr * (weight * (one_hot(y1, 5) - first.softmax(-1)[:, :, None])).sum(2)
    push = weight * (one_hot(y2, 5) - chosen.softmax(-1))
    new_second = second + lr * torch.zeros_like(second).scatter_add(2, y1[..., None].expand(*shape, 8, 5), push)

    def total(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        inner = (one.softmax(-1) * entropy(two.reshape(-1, 5)).view(*shape, 5)).sum(-1)
        return (entropy(one.reshape(-1, 5)).view(shape) + inner).mean(1)

    change = total(new_first, new_second) - total(first, second)
    return float(change.mean() / change.std() * math.sqrt(repetitions))


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_7a_8_mechanism(advantage: float) -> None:
    plain = mechanism(advantage, {})
    modulated = mechanism(advantage, {"modulator": "aem"})
    reversed_ = mechanism(advantage, {"modulator": "aem", "aem_lambda": -1})
    # Successes lower the entropy, failures raise it. |z| is 9 to 11 here; the specification's states gave 33 at three
    # times the repetitions.
    assert -advantage * modulated > 6 and advantage * reversed_ > 6
    assert abs(plain) < 4


@pytest.mark.parametrize(("scope", "one_mean"), [("group", 4), ("trajectory", 2), ("batch", 8)])
def test_the_mean_coefficient_is_one_over_the_scope(scope: str, one_mean: int) -> None:
    entropies = [[0.1, 0.9], [0.5, 2.0], [0.3, 0.35], [1.0, 3.0]]
    tokens = token_table([[0, 1]] * 4, entropy=entropies)
    rewards = rewards_of([1.0] * 4, [0, 0, 1, 1])
    algorithm = build("reinforce", {"modulator": "aem", "aem_scope": scope, "aem_min_range": 0})
    alpha = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT.flatten()
    means = alpha.view(-1, one_mean).mean(1)
    assert means.tolist() == pytest.approx([1.0] * (8 // one_mean))
    if one_mean > 2:  # and over nothing smaller
        assert alpha.view(-1, 2).mean(1).tolist() != pytest.approx([1.0] * 4, abs=1e-3)


def test_nothing_sampled_changes_nothing() -> None:
    tokens = token_table([[0, 0]], entropy=[[0.1, 0.2]])
    empty = replace(tokens, mask_BT=torch.zeros_like(tokens.mask_BT))
    algorithm = build("reinforce", {"modulator": "aem"})
    rewards = rewards_of([1.0])
    report = algorithm.credit(algorithm.advantages(rewards), rewards, empty)
    assert not report.advantage_BT.any() and report.diagnostics == {}
