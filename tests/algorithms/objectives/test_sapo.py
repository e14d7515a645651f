"""SAPO: baselines-rlvr.md 3.5 and the table of 3.6."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.sapo import sapo
from askesis.algorithms.types import LossTerms


def terms_of(ratio: float, advantage: float, tau_negative: float = 1.05) -> tuple[LossTerms, float]:
    """The loss of one token, and its gradient coefficient g in grad l = -g grad logp."""
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros_like(new)
    terms = sapo(new, zeros, zeros + advantage, new < 99, tau_positive=1.0, tau_negative=tau_negative)
    (gradient,) = torch.autograd.grad(terms.per_token_BT.sum(), new)
    return terms, -gradient.item()


@pytest.mark.parametrize(
    ("ratio", "value", "weight"),
    [
        (1.0, 2.0, 1.0),
        (1.2, 2.199336, 0.990066),
        (1.5, 2.489837, 0.940015),
        (2, 2.924234, 0.786448),
        (3, 3.523188, 0.419974),
    ],
)
def test_3_5_gate(ratio: float, value: float, weight: float) -> None:
    terms, got = terms_of(ratio, 1.0)
    assert -terms.per_token_BT.item() == pytest.approx(value, abs=1e-6)
    assert terms.diagnostics["gate"].mean() == pytest.approx(weight, abs=1e-6)
    assert got == pytest.approx(weight * ratio, abs=4e-6)


def test_3_5_gate_of_negative_advantages_at_ratio_one() -> None:
    terms, got = terms_of(1.0, -1.0)
    assert terms.per_token_BT.item() == pytest.approx(1.904762, abs=1e-6)
    assert got == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("advantage", "ratio", "expected"),
    [
        (1, 0.50, 0.470007),
        (1, 0.90, 0.897754),
        (1, 1.15, 1.143555),
        (1, 1.25, 1.230670),
        (1, 1.50, 1.410022),
        (1, 4.00, 0.722827),
        (-1, 0.50, -0.467070),
        (-1, 0.70, -0.682919),
        (-1, 1.25, -1.228712),
        (-1, 4.00, -0.630445),
    ],
)
def test_3_6_gradient_coefficients(advantage: float, ratio: float, expected: float) -> None:
    assert terms_of(ratio, advantage)[1] == pytest.approx(expected, abs=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    new, behaviour, advantage = torch.randn(3, 3, 4, dtype=torch.float64, generator=generator)
    mask = torch.ones(3, 4, dtype=torch.bool)
    leaf = new.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: sapo(x, behaviour, advantage, mask, tau_positive=1.0, tau_negative=1.05).per_token_BT, (leaf,)
    )


def test_larger_tau_closes_sooner() -> None:
    assert abs(terms_of(3.0, -1.0, 2.0)[1]) < abs(terms_of(3.0, -1.0, 1.05)[1]) < abs(terms_of(3.0, -1.0, 1.0)[1])
    assert abs(terms_of(3.0, -1.0, 1.0)[1]) == pytest.approx(terms_of(3.0, 1.0)[1])
