"""Ratios and their diagnostics."""

from __future__ import annotations

import math

import pytest
import torch

from askesis.algorithms.objectives.ratio import log_ratio, ratio_diagnostics, share

MASK = torch.tensor([[True, True, False]])


def test_clamped_masked_and_without_gradient_to_the_behaviour_policy() -> None:
    new = torch.tensor([[-1.0, -0.5, float("nan")]], requires_grad=True)
    behaviour = torch.tensor([[-1.5, -90.0, float("inf")]], requires_grad=True)
    got = log_ratio(new, behaviour, MASK)
    got.sum().backward()
    assert got.tolist() == [[0.5, 20.0, 0.0]]
    assert new.grad is not None and new.grad.tolist() == [[1.0, 0.0, 0.0]]
    assert behaviour.grad is None


def test_diagnostics_are_sums_over_sampled_tokens() -> None:
    got = ratio_diagnostics(torch.tensor([[0.5, -1.0, 7.0]]), MASK)
    assert got["ratio"].mean() == pytest.approx((math.exp(0.5) + math.exp(-1)) / 2)
    k3 = (math.exp(0.5) - 0.5 - 1) + (math.exp(-1) + 1 - 1)
    assert got["kl_behaviour_new"].mean() == pytest.approx(k3 / 2)


def test_share_counts_sampled_tokens_only() -> None:
    got = share(torch.tensor([[True, False, True]]), MASK)
    assert (float(got.total), int(got.count)) == (1.0, 2)
