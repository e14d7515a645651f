"""The plain policy gradient."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.reinforce import reinforce

NEW = [[-1.0, -2.0, -0.5]]
BEHAVIOUR = [[-1.5, -2.0, -0.4]]
ADVANTAGE = [[2.0, -1.0, 3.0]]
MASK = torch.tensor([[True, True, False]])


def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.tensor(x, dtype=dtype, requires_grad=True) for x in (NEW, BEHAVIOUR, ADVANTAGE)]


@pytest.mark.parametrize(
    ("importance_weighted", "loss", "gradient"),
    [
        (False, [2.0, -2.0, 0.0], [-2.0, 1.0, 0.0]),
        (True, [-2 * math.exp(0.5), 1.0, 0.0], [-2 * math.exp(0.5), 1.0, 0.0]),
    ],
)
def test_hand_computed_and_only_the_new_policy_gets_gradient(
    importance_weighted: bool, loss: list[float], gradient: list[float]
) -> None:
    new, behaviour, advantage = tensors()
    terms = reinforce(new, behaviour, advantage, MASK, importance_weighted=importance_weighted)
    terms.per_token_BT.sum().backward()
    assert terms.per_token_BT[0].tolist() == pytest.approx(loss)
    assert new.grad is not None and new.grad[0].tolist() == pytest.approx(gradient)
    assert behaviour.grad is None and advantage.grad is None
    assert all(not sums.total.requires_grad for sums in terms.diagnostics.values())
    assert terms.diagnostics["ratio"].mean() == pytest.approx((math.exp(0.5) + 1) / 2)


@pytest.mark.parametrize("importance_weighted", [False, True])
def test_gradient_agrees_with_finite_differences(importance_weighted: bool) -> None:
    new, behaviour, advantage = tensors(torch.float64)

    def loss(logp: torch.Tensor) -> torch.Tensor:
        return reinforce(logp, behaviour, advantage, MASK, importance_weighted=importance_weighted).per_token_BT

    assert torch.autograd.gradcheck(loss, (new,))


@pytest.mark.parametrize("importance_weighted", [False, True])
def test_empty_mask_zero_advantage_and_huge_ratio(importance_weighted: bool) -> None:
    new, behaviour, advantage = tensors()
    for used_advantage, mask in ((advantage, MASK & False), (advantage * 0, MASK)):
        new.grad = None
        terms = reinforce(new, behaviour, used_advantage, mask, importance_weighted=importance_weighted)
        terms.per_token_BT.sum().backward()
        assert not terms.per_token_BT.any() and new.grad is not None and not new.grad.any()
    far = reinforce(new, behaviour - 1e6, advantage, MASK, importance_weighted=importance_weighted)
    assert torch.isfinite(far.per_token_BT).all()
