"""KL estimates and their placements."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.algorithms.kl import KLEstimator, KLPenalty, KLPlacement, kl_per_token, reward_kl
from askesis.errors import AlgorithmError, RecipeError


@pytest.mark.parametrize(
    ("logp", "logp_ref", "k1", "k2", "k3"),
    [(-1.0, -1.5, 0.5, 0.125, 0.106531), (-2.0, -1.0, -1.0, 0.5, 0.718282), (-3.0, -3.0, 0.0, 0.0, 0.0)],
)
def test_worked_numbers(logp: float, logp_ref: float, k1: float, k2: float, k3: float) -> None:
    got = [float(kl_per_token(torch.tensor(logp), torch.tensor(logp_ref), kind)) for kind in KLEstimator]
    assert got == pytest.approx([k1, k2, k3], abs=1e-6)


@given(st.floats(-100, 0), st.floats(-100, 0))
def test_k3_is_never_negative_and_never_above_its_clamp(logp: float, logp_ref: float) -> None:
    value = float(kl_per_token(torch.tensor(logp).double(), torch.tensor(logp_ref).double(), KLEstimator.K3))
    assert -1e-12 <= value <= 10.0


def test_k3_is_clamped_and_its_gradient_stops_there() -> None:
    logp = torch.tensor([-60.0, -1.0, 0.0], requires_grad=True)
    kl = kl_per_token(logp, torch.tensor([0.0, -1.5, -30.0]), KLEstimator.K3)
    kl.sum().backward()
    assert kl.tolist() == pytest.approx([10.0, 0.106531, 10.0], abs=1e-6)
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([0.0, 1 - math.exp(-0.5), 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", KLEstimator)
def test_gradients_agree_with_finite_differences(kind: KLEstimator) -> None:
    logp = torch.tensor([-1.0, -2.0, -0.3], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-1.5, -1.0, -0.31], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: kl_per_token(x, ref, kind), (logp,))


@pytest.mark.parametrize("kind", KLEstimator)
def test_the_reference_receives_no_gradient(kind: KLEstimator) -> None:
    logp, ref = torch.tensor([-1.0], requires_grad=True), torch.tensor([-2.0], requires_grad=True)
    kl_per_token(logp, ref, kind).sum().backward()
    assert ref.grad is None and logp.grad is not None


def test_expected_values_and_gradients_on_policy() -> None:
    """Over a whole distribution: k1 and k3 have the KL as their mean; only k2 has its gradient; k1 has none."""
    logits = torch.tensor([0.3, -0.4, 0.9], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([0.0, 0.5, -0.2], dtype=torch.float64), 0)
    logp = torch.log_softmax(logits, 0)
    kl = (logp.exp() * (logp - ref)).sum()
    (true_gradient,) = torch.autograd.grad(kl, logits, retain_graph=True)
    means, gradients = {}, {}
    for kind in KLEstimator:
        expected = (logp.detach().exp() * kl_per_token(logp, ref, kind)).sum()
        means[kind] = expected.item()
        (gradients[kind],) = torch.autograd.grad(expected, logits, retain_graph=True)
    assert means[KLEstimator.K1] == pytest.approx(kl.item()) and means[KLEstimator.K3] == pytest.approx(kl.item())
    assert torch.allclose(gradients[KLEstimator.K2], true_gradient)
    assert torch.allclose(gradients[KLEstimator.K1], torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert not torch.allclose(gradients[KLEstimator.K3], true_gradient, atol=1e-3)


def test_reward_kl_sums_k1_over_the_sampled_tokens_of_each_trajectory() -> None:
    behaviour = torch.tensor([[-1.0, -2.0], [-0.5, float("nan")], [-1.0, -1.0]], requires_grad=True)
    ref = torch.tensor([[-1.5, -1.0], [-1.5, 0.0], [-3.0, -1.0]])
    mask = torch.tensor([[1, 1], [1, 0], [1, 1]], dtype=torch.bool)
    got = reward_kl(behaviour, ref, mask, torch.tensor([2, 0, 0]), 3)
    # Row 0: .5 - 1; rows 1 and 2 share a trajectory: 1 + 2 + 0; trajectory 1 has no tokens.
    assert got.tolist() == [3.0, 0.0, -0.5] and not got.requires_grad


@pytest.mark.parametrize("row", [-1, 2])
def test_reward_kl_refuses_rows_of_no_reward(row: int) -> None:
    one = torch.zeros(1, 1)
    with pytest.raises(AlgorithmError, match="belongs to no reward"):
        reward_kl(one, one, one == 0, torch.tensor([row]), 2)


def test_reward_kl_of_no_rows() -> None:
    none = torch.zeros(0, 3)
    assert reward_kl(none, none, none == 0, torch.zeros(0, dtype=torch.int64), 2).tolist() == [0.0, 0.0]


def test_placements_that_do_not_do_what_they_say_are_refused() -> None:
    with pytest.raises(RecipeError, match="which is k1"):
        KLPenalty(beta=0.1, estimator=KLEstimator.K3, placement=KLPlacement.REWARD)
    with pytest.raises(RecipeError, match="regularises nothing"):
        KLPenalty(beta=0.1, estimator=KLEstimator.K1, placement=KLPlacement.LOSS)


def test_a_penalty_of_strength_zero_is_nowhere() -> None:
    for placement in KLPlacement:
        off = KLPenalty(beta=0.0, estimator=KLEstimator.K1, placement=placement)
        assert not off.is_in_loss and not off.is_in_reward
    assert KLPenalty(beta=0.1, estimator=KLEstimator.K2, placement=KLPlacement.LOSS).is_in_loss
    assert KLPenalty(beta=0.1, estimator=KLEstimator.K1, placement=KLPlacement.REWARD).is_in_reward
