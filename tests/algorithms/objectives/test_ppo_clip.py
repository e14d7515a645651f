"""The clipped surrogate: the table of gradient coefficients, limits, and what receives gradient."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.ppo_clip import ppo_clip
from askesis.algorithms.objectives.reinforce import reinforce
from askesis.algorithms.types import LossTerms


def clip(
    new: torch.Tensor,
    behaviour: torch.Tensor,
    advantage: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    high: float = 0.2,
    dual: float | None = None,
) -> LossTerms:
    mask = torch.ones_like(new, dtype=torch.bool) if mask is None else mask
    return ppo_clip(new, behaviour, advantage, mask, clip_low=0.2, clip_high=high, dual_clip=dual)


# advantage, ratio, then the coefficient g in grad l = -g grad logp: PPO .2, dual clip 3, DAPO .2/.28
TABLE = [
    (1, 0.50, 0.50, 0.50, 0.50),
    (1, 0.90, 0.90, 0.90, 0.90),
    (1, 1.15, 1.15, 1.15, 1.15),
    (1, 1.25, 0, 0, 1.25),
    (1, 1.50, 0, 0, 0),
    (1, 4.00, 0, 0, 0),
    (-1, 0.50, 0, 0, 0),
    (-1, 0.70, 0, 0, 0),
    (-1, 1.25, -1.25, -1.25, -1.25),
    (-1, 4.00, -4.00, 0, -4.00),
]


@pytest.mark.parametrize(("advantage", "ratio", "ppo", "dual", "dapo"), TABLE)
def test_gradient_coefficients(advantage: float, ratio: float, ppo: float, dual: float, dapo: float) -> None:
    for expected, high, dual_clip in ((ppo, 0.2, None), (dual, 0.2, 3.0), (dapo, 0.28, None)):
        new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
        terms = clip(new, torch.zeros_like(new), torch.full_like(new, advantage), high=high, dual=dual_clip)
        terms.per_token_BT.sum().backward()
        assert new.grad is not None and -new.grad.item() == pytest.approx(expected, abs=1e-9)
        stopped = sum(float(s.total) for name, s in terms.diagnostics.items() if name.startswith("clipped"))
        assert stopped == float(expected == 0)


def test_hand_computed_losses() -> None:
    ratio = torch.tensor([[0.5, 1.5, 0.5, 1.5, 4.0]], dtype=torch.float64)
    advantage = torch.tensor([[2.0, 2.0, -2.0, -2.0, -2.0]], dtype=torch.float64)
    plain = clip(ratio.log(), torch.zeros_like(ratio), advantage).per_token_BT
    assert plain[0].tolist() == pytest.approx([-1.0, -2.4, 1.6, 3.0, 8.0])
    dual = clip(ratio.log(), torch.zeros_like(ratio), advantage, dual=3.0).per_token_BT
    assert dual[0].tolist() == pytest.approx([-1.0, -2.4, 1.6, 3.0, 6.0])


def random_tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    new, noise, advantage = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
    return -new.abs(), -new.abs() + 0.3 * noise, advantage


@pytest.mark.parametrize("dual", [None, 3.0])
def test_gradient_agrees_with_finite_differences(dual: float | None) -> None:
    new, behaviour, advantage = random_tensors()
    ratio = (new - behaviour).exp()
    # The kinks have no derivative, so no test point may lie near one.
    assert min(float((ratio - kink).abs().min()) for kink in (0.8, 1.2, 3.0)) > 1e-4
    new.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clip(x, behaviour, advantage, dual=dual).per_token_BT, (new,))


def test_only_the_new_policy_receives_gradient() -> None:
    new, behaviour, advantage = (x.requires_grad_() for x in random_tensors())
    terms = clip(new, behaviour, advantage, dual=3.0)
    terms.per_token_BT.sum().backward()
    assert new.grad is not None and new.grad.any()
    assert behaviour.grad is None and advantage.grad is None
    assert all(not sums.total.requires_grad for sums in terms.diagnostics.values())


def test_on_policy_it_is_reinforce() -> None:
    new, _, advantage = random_tensors()
    gradients = []
    for is_clipped in (True, False):
        logp = new.clone().requires_grad_()
        mask = torch.ones_like(new, dtype=torch.bool)
        terms = (
            clip(logp, new, advantage, dual=3.0)
            if is_clipped
            else reinforce(logp, new, advantage, mask, importance_weighted=False)
        )
        terms.per_token_BT.sum().backward()
        assert logp.grad is not None
        gradients.append(logp.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_bounds_far_away_are_importance_weighted_reinforce() -> None:
    new, behaviour, advantage = random_tensors()
    mask = torch.ones_like(new, dtype=torch.bool)
    free = ppo_clip(new, behaviour, advantage, mask, clip_low=1e9, clip_high=1e9, dual_clip=None)
    plain = reinforce(new, behaviour, advantage, mask, importance_weighted=True)
    assert torch.equal(free.per_token_BT, plain.per_token_BT)


def test_empty_mask_zero_advantage_huge_ratio_and_rubbish_under_the_mask() -> None:
    new, behaviour, advantage = random_tensors()
    new.requires_grad_()
    mask = torch.zeros_like(new, dtype=torch.bool)
    for used_advantage, used_mask in ((advantage * float("nan"), mask), (advantage * 0, ~mask)):
        new.grad = None
        terms = clip(new, behaviour, used_advantage, used_mask, dual=3.0)
        terms.per_token_BT.sum().backward()
        assert not terms.per_token_BT.any() and new.grad is not None and not new.grad.any()
    assert torch.isfinite(clip(new, behaviour - 1e6, advantage).per_token_BT).all()


def test_shares_say_which_bound_stopped_how_many_sampled_tokens() -> None:
    ratio = torch.tensor([[1.3, 1.3, 0.7, 5.0, 1.3]])
    advantage = torch.tensor([[1.0, -1.0, -1.0, -1.0, 1.0]])
    mask = torch.tensor([[True, True, True, True, False]])
    terms = clip(ratio.log(), torch.zeros_like(ratio), advantage, mask, dual=3.0)
    means = {name: sums.mean() for name, sums in terms.diagnostics.items()}
    assert (means["clipped_high"], means["clipped_low"], means["clipped_dual"]) == (0.25, 0.25, 0.25)
    assert means["ratio"] == pytest.approx((1.3 + 1.3 + 0.7 + 5.0) / 4)
    assert "clipped_dual" not in clip(ratio.log(), torch.zeros_like(ratio), advantage).diagnostics
