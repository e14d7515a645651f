"""GSPO: baselines-rlvr.md 3.3."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.gspo import gspo
from askesis.algorithms.objectives.ppo_clip import ppo_clip
from askesis.algorithms.types import LossTerms


def one_sequence(
    gaps: list[float], advantage: float, *, low: float = 3e-4, high: float = 4e-4
) -> tuple[LossTerms, torch.Tensor]:
    new = torch.tensor([gaps], dtype=torch.float64).requires_grad_()
    zeros = torch.zeros_like(new)
    terms = gspo(new, zeros, zeros + advantage, zeros == 0, sequence_B=torch.tensor([4]), clip_low=3e-4, clip_high=4e-4)
    return terms, new


@pytest.mark.parametrize(
    ("gaps", "ratio"), [([0.001, -0.0002, 0.0004], 1.00040008), ([0.002, -0.0002, 0.0004], 1.00073360)]
)
def test_3_3_worked_numbers(gaps: list[float], ratio: float) -> None:
    for advantage, moves in ((1.0, False), (-1.0, True)):
        terms, new = one_sequence(gaps, advantage)
        assert terms.diagnostics["ratio_sequence"].mean() == pytest.approx(ratio, abs=5e-8)
        (terms.per_token_BT.sum() / 3).backward()
        assert new.grad is not None and bool(new.grad.any()) == moves
        if moves:  # the gradient of A * s, a third of it at each token
            assert new.grad[0].tolist() == pytest.approx([ratio / 3] * 3, rel=1e-7)
        assert terms.diagnostics["clipped_high"].mean() == float(not moves)


def test_value_and_gradient_are_those_of_the_sequence_form() -> None:
    generator = torch.Generator().manual_seed(0)
    new = -torch.rand(3, 4, dtype=torch.float64, generator=generator)
    behaviour = new + 0.2 * torch.randn(3, 4, dtype=torch.float64, generator=generator)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    sequence = torch.tensor([0, 1, 0])
    advantage = torch.tensor([1.3, -0.7, 1.3], dtype=torch.float64)[:, None].expand(3, 4)

    def sequence_form(logp: torch.Tensor) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for name, a in ((0, 1.3), (1, -0.7)):
            chosen = mask & (sequence == name)[:, None]
            s = ((logp - behaviour)[chosen].sum() / chosen.sum()).exp()
            total = total + torch.maximum(-a * s, -a * s.clamp(0.8, 1.1)) / 2
        return total

    def token_form(logp: torch.Tensor) -> torch.Tensor:
        terms = gspo(logp, behaviour, advantage, mask, sequence_B=sequence, clip_low=0.2, clip_high=0.1)
        num = torch.tensor([7.0, 2.0, 7.0], dtype=torch.float64)[:, None]
        return (terms.per_token_BT / num / 2).sum()

    leaf = new.clone().requires_grad_()
    values = [form(leaf) for form in (sequence_form, token_form)]
    grads = [torch.autograd.grad(value, leaf)[0] for value in values]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-12)
    assert torch.allclose(*grads, rtol=1e-12) and grads[0][mask].all()


@pytest.mark.parametrize("seed", range(3))
def test_sequences_of_one_token_are_ppo(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    new, behaviour, advantage = torch.randn(3, 9, 1, dtype=torch.float64, generator=generator)
    mask = torch.ones(9, 1, dtype=torch.bool)
    leaves = [new.clone().requires_grad_() for _ in range(2)]
    one = gspo(
        leaves[0], behaviour, advantage, mask, sequence_B=torch.arange(9), clip_low=0.2, clip_high=0.28
    ).per_token_BT
    other = ppo_clip(leaves[1], behaviour, advantage, mask, clip_low=0.2, clip_high=0.28, dual_clip=None).per_token_BT
    assert torch.allclose(one, other, rtol=1e-12)
    (grad_one,), (grad_other,) = torch.autograd.grad(one.sum(), leaves[0]), torch.autograd.grad(other.sum(), leaves[1])
    assert torch.allclose(grad_one, grad_other, rtol=1e-12)


def test_repeating_a_sequence_leaves_its_ratio() -> None:
    once, _ = one_sequence([0.3, -0.1], 1.0)
    twice, _ = one_sequence([0.3, -0.1] * 2, 1.0)
    assert once.diagnostics["ratio_sequence"].mean() == pytest.approx(twice.diagnostics["ratio_sequence"].mean())


def test_a_huge_ratio_is_bounded() -> None:
    terms, new = one_sequence([50.0, 50.0], -1.0)
    (gradient,) = torch.autograd.grad(terms.per_token_BT.sum(), new)
    assert gradient[0].tolist() == pytest.approx([math.exp(10)] * 2)
