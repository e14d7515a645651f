"""A-NSR: a-nsr.md 7a, items 1 to 4 and 10. (Items 5 and 7 to 9 are in test_signed, 6 in test_confidence; 11, pass@k,
in the tests of evaluation.)"""

from __future__ import annotations

import math

import pytest
import torch

from algorithms.cases import gradient, random_inputs, rewards_of
from askesis.algorithms import build
from askesis.algorithms.estimators.a_nsr import NegativeSchedule, negative_weight, positive_weight
from askesis.errors import AlgorithmError

REWARDS = [1.0, 0.0, 0.0, 1.0]


def beta(schedule: NegativeSchedule, progress: float = 0.0, accuracy: float = 0.0) -> float:
    return negative_weight(schedule, progress=progress, accuracy=accuracy, low=0.5, high=1.5, decay=4.5)


def advantages(name: str, progress: float, overrides: dict[str, object] | None = None) -> list[float]:
    values: list[float] = build(name, overrides).advantages(rewards_of(REWARDS, progress=progress)).advantage_B.tolist()
    return values


@pytest.mark.parametrize(
    ("t", "expected"),
    [(0, 1.5), (25, 0.972367), (50, 0.723130), (75, 0.605399), (100, 0.549787), (150, 0.511109)],
)
def test_7a_1_exponential(t: int, expected: float) -> None:
    assert beta(NegativeSchedule.EXPONENTIAL, t / 150) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("t", "expected"), [(0, 0.05), (50, 0.1), (75, 0.125), (150, 0.2)])
def test_7a_1_positive(t: int, expected: float) -> None:
    assert positive_weight(progress=t / 150, low=0.05, high=0.2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("t", "ratio"), [(0, 30.0), (50, 7.2313), (150, 2.5555)])
def test_7a_1_the_defaults_are_the_papers(t: int, ratio: float) -> None:
    right, wrong, *_ = advantages("a_nsr", t / 150)
    assert -wrong / right == pytest.approx(ratio, abs=1e-4)


@pytest.mark.parametrize(("t", "expected"), [(0, 1.5), (50, 1.25), (75, 1.0), (100, 0.75), (150, 0.5)])
def test_7a_2_cosine(t: int, expected: float) -> None:
    assert beta(NegativeSchedule.COSINE, t / 150) == pytest.approx(expected, abs=1e-12)


def test_7a_2_cosine_is_level_at_both_ends() -> None:
    for start, end in ((0.0, 1e-4), (1.0, 1 - 1e-4)):
        slope = (beta(NegativeSchedule.COSINE, end) - beta(NegativeSchedule.COSINE, start)) / 1e-4
        assert abs(slope) < 1e-3


@pytest.mark.parametrize(("accuracy", "expected"), [(0, 1.5), (0.25, 1.25), (0.5, 1.0), (0.9, 0.6), (1, 0.5)])
def test_7a_3_accuracy(accuracy: float, expected: float) -> None:
    assert beta(NegativeSchedule.ACCURACY, accuracy=accuracy) == pytest.approx(expected, abs=1e-12)


def test_7a_3_the_accuracy_is_that_of_the_batch() -> None:
    algorithm = build("a_nsr", {"negative_schedule": "accuracy"})
    got = algorithm.advantages(rewards_of([1.0, 0.0, 0.0, 0.0], [0, 0, 1, 1], progress=0.0)).advantage_B
    assert got.tolist() == pytest.approx([0.05, -1.25, -1.25, -1.25])


@pytest.mark.parametrize(
    ("bounds", "other"),
    [((0.1, 1.0), "w_reinforce"), ((0.0, 1.0), "nsr"), ((1.0, 0.0), "psr"), ((1.0, 1.0), "reinforce")],
)
@pytest.mark.parametrize("schedule", NegativeSchedule)
def test_7a_4_reductions(bounds: tuple[float, float], other: str, schedule: NegativeSchedule) -> None:
    positive, negative = bounds
    overrides: dict[str, object] = {
        "positive_min": positive,
        "positive_max": positive,
        "negative_min": negative,
        "negative_max": negative,
        "negative_schedule": schedule.value,
    }
    rewards = rewards_of([1.0, -1.0, -1.0, 1.0], progress=0.4)
    got = build("a_nsr", overrides).advantages(rewards).advantage_B
    assert torch.equal(got, build(other).advantages(rewards).advantage_B)


def test_7a_10_the_gradient_is_the_weighted_sum_of_those_of_psr_and_nsr() -> None:
    progress, rows = 0.5, torch.tensor([0, 1, 2, 3])
    grads = {}
    for name in ("psr", "nsr", "a_nsr"):
        algorithm = build(name, {"dual_clip": None})
        inputs, leaf = random_inputs(algorithm, 11, rows=4)
        rewards = rewards_of(REWARDS, progress=progress)
        advantage_BT = algorithm.advantages(rewards).advantage_B[rows][:, None].expand(-1, 4)
        fields = {f: getattr(inputs, f) for f in ("logp_new_BT", "logp_behaviour_BT", "mask_BT", "weight_BT")}
        grads[name] = gradient(algorithm.loss(type(inputs)(advantage_BT=advantage_BT, **fields)).loss, leaf)
    weight, penalty = 0.05 + 0.15 * progress, 0.5 + math.exp(-4.5 * progress)
    assert torch.allclose(grads["a_nsr"], weight * grads["psr"] + penalty * grads["nsr"], rtol=1e-9, atol=1e-12)
    assert grads["psr"].any() and grads["nsr"].any()


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_the_controls_are_the_two_halves_of_the_schedule(progress: float) -> None:
    whole = advantages("a_nsr", progress)
    scale = advantages("w_reinforce_decay", progress)
    # W-REINFORCE with a decaying scale: its ratio stays, its size falls as that of A-NSR.
    assert scale[1] == whole[1] and scale[0] / -scale[1] == pytest.approx(0.1)
    ratio = advantages("a_nsr", progress, {"acting": "ratio"})
    assert ratio[1] == -1.0 and ratio[0] == pytest.approx(whole[0] / -whole[1])


def test_a_ratio_to_nothing_is_refused() -> None:
    with pytest.raises(AlgorithmError, match="divides by beta"):
        advantages("a_nsr", 1.0, {"acting": "ratio", "negative_schedule": "cosine", "negative_min": 0})


def test_it_asks_for_the_progress() -> None:
    algorithm = build("a_nsr")
    assert algorithm.needs == {"progress"}
    with pytest.raises(AlgorithmError, match="needs progress"):
        algorithm.advantages(rewards_of(REWARDS))
