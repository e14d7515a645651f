"""PSR, NSR and W-REINFORCE: baselines-rlvr.md 2.5 and a-nsr.md 7a."""

from __future__ import annotations

import pytest
import torch

from algorithms.cases import on_policy_loss, rewards_of
from askesis.algorithms import build

RIGHT_AND_WRONG = [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("psr", {}, [1.0, 0.0, 0.0, 1.0]),
        ("nsr", {}, [0.0, -1.0, -1.0, 0.0]),
        ("w_reinforce", {}, [0.1, -1.0, -1.0, 0.1]),
        ("w_reinforce", {"positive_weight": 0.5}, [0.5, -1.0, -1.0, 0.5]),
    ],
)
def test_advantages(name: str, overrides: dict[str, object], expected: list[float]) -> None:
    algorithm = build(name, overrides)
    assert algorithm.advantages(rewards_of(RIGHT_AND_WRONG)).advantage_B.tolist() == expected
    # Rewards of 1 and -1 say the same.
    signs = rewards_of([2 * r - 1 for r in RIGHT_AND_WRONG])
    assert algorithm.advantages(signs).advantage_B.tolist() == expected


@pytest.mark.parametrize(
    ("name", "overrides", "loss"),
    [
        ("psr", {}, -0.5),
        ("nsr", {}, 0.5),
        ("w_reinforce", {}, 0.45),
        ("w_reinforce", {"positive_weight": 1}, 0.0),
        ("a_nsr", {}, 0.311565),
    ],
)
def test_a_nsr_7a_5_loss_on_policy(name: str, overrides: dict[str, object], loss: float) -> None:
    rewards = rewards_of(RIGHT_AND_WRONG, progress=50 / 150)
    assert on_policy_loss(build(name, overrides), rewards, [4, 2, 3, 1]) == pytest.approx(loss, abs=1e-6)


def test_w_reinforce_between_reinforce_and_nsr() -> None:
    signs = rewards_of([1.0, -1.0, -1.0, 1.0])
    for weight, other in ((1.0, "reinforce"), (0.0, "nsr")):
        weighted = build("w_reinforce", {"positive_weight": weight}).advantages(signs).advantage_B
        assert torch.equal(weighted, build(other).advantages(signs).advantage_B)


def test_a_graded_reward_is_judged_by_the_threshold() -> None:
    graded = rewards_of([0.2, 0.6, 0.9])
    assert build("nsr", {"success_at": 0.6}).advantages(graded).advantage_B.tolist() == [-1.0, 0.0, 0.0]
    assert build("nsr").advantages(graded).advantage_B.tolist() == [-1.0, -1.0, -1.0]


def test_a_nsr_7a_9_which_groups_teach() -> None:
    right, wrong = rewards_of([1.0] * 4), rewards_of([0.0] * 4)
    for name in ("nsr", "w_reinforce", "psr"):
        algorithm = build(name)
        assert algorithm.advantages(right).advantage_B.any() == (name != "nsr")
        assert algorithm.advantages(wrong).advantage_B.any() == (name != "psr")
    for name in ("grpo", "rloo", "dr_grpo"):
        algorithm = build(name, {"kl_beta": 0})
        for rewards in (right, wrong):
            assert not algorithm.advantages(rewards).advantage_B.any()


def test_no_advantage_has_no_sign() -> None:
    for name in ("psr", "nsr"):
        advantage = build(name).advantages(rewards_of(RIGHT_AND_WRONG)).advantage_B
        assert not torch.signbit(advantage[advantage == 0]).any()


def logits_step(pi: list[float], advantage: float) -> torch.Tensor:
    """The direction in which gradient descent moves the logits after token 0 was drawn."""
    z = torch.tensor(pi, dtype=torch.float64).log().requires_grad_()
    (-advantage * z.log_softmax(0)[0]).backward()
    assert z.grad is not None
    return -z.grad


def test_a_nsr_7a_7_a_wrong_token_gives_its_mass_to_the_likely_ones() -> None:
    pi = [0.6, 0.3, 0.1]
    step = logits_step(pi, advantage=-1.0)
    assert step.tolist() == pytest.approx([-0.4, 0.3, 0.1])
    after = (torch.tensor(pi, dtype=torch.float64).log() + 0.5 * step).softmax(0)
    assert after.tolist() == pytest.approx([0.519875, 0.368869, 0.111256], abs=1e-6)
    gained = after - torch.tensor(pi, dtype=torch.float64)
    assert gained[1] > gained[2] > 0


@pytest.mark.parametrize("pi", [0.9, 0.99, 0.999])
def test_a_nsr_7a_8_confident_tokens_are_damped(pi: float) -> None:
    assert abs(logits_step([pi, 1 - pi], advantage=-1.0)[0].item()) == pytest.approx(1 - pi, rel=1e-9)
