"""Entropy and Hellinger distance: dgpo.md 7a, items 1, 2 and 10."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms import entropy, hellinger

P = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
Q = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)


def random_logits(seed: int, rows: int, columns: int, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_7a_1_worked_example() -> None:
    distance = hellinger(P.log(), Q.log())
    assert distance.tolist() == pytest.approx([0.0220217], abs=1e-7)
    assert distance.sqrt().tolist() == pytest.approx([0.148397], abs=1e-6)
    assert (P * (P / Q).log()).sum().item() == pytest.approx(0.0920329, abs=1e-7)
    assert (entropy(P.log()) / math.log(3)).tolist() == pytest.approx([0.937231], abs=1e-6)


def test_7a_2_equal_symmetric_disjoint_bounded() -> None:
    one, other = random_logits(0, 50, 20), random_logits(1, 50, 20)
    assert hellinger(one, one).tolist() == [0.0] * 50
    assert torch.equal(hellinger(one, other), hellinger(other, one))
    distance = hellinger(one, other)
    assert distance.min() > 0 and distance.max() < 1
    apart = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[-torch.inf, 0.0]])
    assert hellinger(*apart).tolist() == [1.0]
    # Section 3.3: KL >= -2 log(1 - d), and d <= total variation <= sqrt(2 d - d^2).
    p, q = one.softmax(1), other.softmax(1)
    assert ((p * (p / q).log()).sum(1) >= -2 * (1 - distance).log()).all()
    variation = (p - q).abs().sum(1) / 2
    assert (distance <= variation).all() and (variation <= (2 * distance - distance**2).sqrt()).all()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_7a_2_both_forms_agree_on_a_thousand_tokens(temperature: float) -> None:
    one, other = random_logits(2, 8, 1000), random_logits(3, 8, 1000)
    half = ((one / temperature).log_softmax(1) + (other / temperature).log_softmax(1)) / 2
    expected = -torch.expm1(half.logsumexp(1))
    for dtype in (torch.float64, torch.float32):
        got = hellinger(one.to(dtype), other.to(dtype), temperature)
        assert got.dtype == dtype and torch.allclose(got.double(), expected, atol=1e-6)


def test_7a_2_probabilities_that_underflow_are_no_nan() -> None:
    wide = torch.tensor([[0.0, -1e4, -torch.inf], [3e4, -3e4, 0.0]])
    assert torch.isfinite(hellinger(wide, wide.flip(0))).all()
    assert entropy(wide).tolist() == [0.0, 0.0]


def test_7a_10_a_small_change_is_a_quarter_of_the_kl() -> None:
    moved = P.log() + torch.tensor([[0.01, -0.02, 0.005]], dtype=torch.float64)
    distance = hellinger(P.log(), moved).item()
    kl = (P * (P.log() - moved.log_softmax(1))).sum().item()
    assert distance == pytest.approx(2.176e-5, rel=1e-3) and kl / 4 == pytest.approx(2.180e-5, rel=1e-3)


def test_single_precision_still_sees_distances_that_one_minus_a_sum_loses() -> None:
    logits = random_logits(4, 16, 5000)
    moved = logits + 2e-3 * random_logits(5, 16, 5000, scale=1.0)
    exact = hellinger(logits, moved)
    assert exact.max() < 2e-6
    assert torch.allclose(hellinger(logits.float(), moved.float()).double(), exact, rtol=0.02)
    half = (logits.float().log_softmax(1) + moved.float().log_softmax(1)) / 2
    assert not torch.allclose(-torch.expm1(half.logsumexp(1)).double(), exact, rtol=0.02)


def test_section_3_3_the_distance_is_bounded_where_the_kl_is_not() -> None:
    p = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    q = torch.tensor([[1e-8, 1 - 1e-8]], dtype=torch.float64)
    assert hellinger(p.log(), q.log()).item() == pytest.approx(0.2928, abs=1e-4)


def test_half_precision_is_summed_in_single() -> None:
    logits = random_logits(6, 4, 100)
    for dtype in (torch.bfloat16, torch.float16):
        given = logits.to(dtype)
        assert entropy(given).dtype == torch.float32
        assert torch.allclose(entropy(given).double(), entropy(given.double()), rtol=1e-5)
        assert hellinger(given, given.flip(0)).dtype == torch.float32


def test_entropy_by_hand_at_a_temperature_and_with_gradient() -> None:
    assert entropy(torch.zeros(2, 8, dtype=torch.float64)).tolist() == pytest.approx([math.log(8)] * 2)
    cooled = (P / 1.0).log() * 2  # temperature 1/2 squares probabilities
    squares = P.square() / P.square().sum()
    assert entropy(P.log(), 0.5).item() == pytest.approx(-(squares * squares.log()).sum().item())
    assert entropy(cooled).item() == pytest.approx(entropy(P.log(), 0.5).item())
    leaf = random_logits(7, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(entropy, (leaf,))
    assert not hellinger(leaf, leaf.detach() + 1).requires_grad


def test_no_tokens_give_no_numbers() -> None:
    nothing = torch.zeros(0, 5)
    assert entropy(nothing).shape == hellinger(nothing, nothing).shape == (0,)
