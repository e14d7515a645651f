"""CISPO: baselines-rlvr.md 3.4 and the table of 3.6."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.cispo import Cap, cispo
from askesis.algorithms.types import LossTerms


def terms_of(
    ratio: float, advantage: float, *, low: float | None = None, high: float = 0.2, cap: Cap = Cap.ABOVE_ONE
) -> tuple[LossTerms, float]:
    """The loss of one token, and its gradient coefficient g in grad l = -g grad logp."""
    new = torch.tensor([[math.log(ratio) - 1]], dtype=torch.float64, requires_grad=True)
    behaviour = torch.full_like(new, -1.0)
    terms = cispo(new, behaviour, torch.full_like(new, advantage), new < 99, clip_low=low, clip_high=high, cap=cap)
    (gradient,) = torch.autograd.grad(terms.per_token_BT.sum(), new)
    return terms, -gradient.item()


@pytest.mark.parametrize(
    ("advantage", "ratio", "expected"),
    [
        (1, 0.50, 0.50),
        (1, 0.90, 0.90),
        (1, 1.15, 1.15),
        (1, 1.25, 1.20),
        (1, 1.50, 1.20),
        (1, 4.00, 1.20),
        (-1, 0.50, -0.50),
        (-1, 0.70, -0.70),
        (-1, 1.25, -1.20),
        (-1, 4.00, -1.20),
    ],
)
def test_3_6_gradient_coefficients(advantage: float, ratio: float, expected: float) -> None:
    terms, got = terms_of(ratio, advantage)
    assert got == pytest.approx(expected, abs=1e-12)
    assert terms.diagnostics["capped"].mean() == float(ratio > 1.2)
    # verl's lower bound of 1 - 10 is never met.
    assert terms_of(ratio, advantage, low=10.0)[1] == got


def test_an_absolute_cap_and_a_lower_bound() -> None:
    assert terms_of(7.0, 1.0, high=5.0, cap=Cap.ABSOLUTE)[1] == pytest.approx(5.0)
    assert terms_of(4.0, 1.0, high=5.0, cap=Cap.ABSOLUTE)[1] == pytest.approx(4.0)
    terms, got = terms_of(0.1, -2.0, low=0.3)
    assert got == pytest.approx(-1.4) and terms.diagnostics["capped"].mean() == 1.0


def test_the_value_holds_the_log_probability() -> None:
    terms, _ = terms_of(1.1, 2.0)
    assert terms.per_token_BT.item() == pytest.approx(-1.1 * 2 * (math.log(1.1) - 1))
