"""What ratios say about staleness, by hand and on known distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.algorithms import off_policy
from askesis.algorithms.off_policy import effective_share


def test_effective_share_by_hand() -> None:
    # (1 + 3)^2 / (2 * (1 + 9))
    assert effective_share(torch.tensor([0.0, math.log(3)])) == pytest.approx(16 / 20)
    assert effective_share(torch.zeros(7)) == 1.0
    assert effective_share(torch.tensor([1e6, 0.0, -1e6, 5.0])) == pytest.approx(1 / 4)


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=20), st.floats(-500, 500))
def test_effective_share_lies_between_one_sample_and_all_and_ignores_scale(logs: list[float], shift: float) -> None:
    log_weight = torch.tensor(logs, dtype=torch.float64)
    share = effective_share(log_weight)
    assert 1 / len(logs) - 1e-12 <= share <= 1 + 1e-12
    assert effective_share(log_weight + shift) == pytest.approx(share, rel=1e-6)


def test_vespo_7a_effective_share_of_plain_importance_weights() -> None:
    z = torch.randn(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for s, expected in ((1.0, 0.368), (0.5, math.exp(-0.25))):
        assert effective_share(s * z - s * s / 2) == pytest.approx(expected, rel=0.01)


def test_off_policy_by_hand() -> None:
    nan = float("nan")
    log_ratio_BT = torch.tensor([[0.1, -0.3, nan], [0.2, nan, nan], [0.4, 0.0, 0.5], [nan, nan, nan]])
    mask_BT = torch.tensor([[True, True, False], [True, False, False], [True, True, True], [False, False, False]])
    got = off_policy(log_ratio_BT, mask_BT, torch.tensor([7, 7, -2, 8]))
    logs = [0.1, -0.3, 0.2, 0.4, 0.0, 0.5]
    w, whole = [math.exp(x) for x in logs], [math.exp(0.0), math.exp(0.9)]
    assert got == {
        "ess_token": pytest.approx(sum(w) ** 2 / (6 * sum(x * x for x in w))),
        "ess_sequence": pytest.approx(sum(whole) ** 2 / (2 * sum(x * x for x in whole)), rel=1e-5),
        "kl_behaviour_new_k1": pytest.approx(-sum(logs) / 6),
        "kl_behaviour_new_k3": pytest.approx(sum(math.exp(x) - x - 1 for x in logs) / 6),
        "ratio_p01": pytest.approx(math.exp(-0.3)),
        "ratio_p50": pytest.approx(math.exp(0.1)),
        "ratio_p99": pytest.approx(math.exp(0.5)),
        "ratio_max": pytest.approx(math.exp(0.5)),
        "log_ratio_sequence_min": pytest.approx(0.0, abs=1e-6),
        "log_ratio_sequence_max": pytest.approx(0.9),
    }


def test_on_policy_all_is_quiet_and_padding_rows_are_no_sequences() -> None:
    mask_BT = torch.tensor([[True, True], [True, False], [False, False]])
    got = off_policy(torch.zeros(3, 2), mask_BT, torch.tensor([0, 1, 2]))
    assert got["ess_token"] == got["ess_sequence"] == got["ratio_max"] == got["ratio_p01"] == 1.0
    assert got["kl_behaviour_new_k1"] == got["kl_behaviour_new_k3"] == got["log_ratio_sequence_max"] == 0.0


def test_quantiles_are_those_of_the_sorted_ratios() -> None:
    log_ratio_BT = torch.arange(101.0).flip(0)[None] / 10
    got = off_policy(log_ratio_BT, torch.ones(1, 101, dtype=torch.bool), torch.tensor([0]))
    assert [got[f"ratio_{q}"] for q in ("p01", "p50", "p99", "max")] == pytest.approx(
        [math.exp(x) for x in (0.1, 5.0, 9.9, 10.0)]
    )


def test_nothing_sampled_says_nothing() -> None:
    assert off_policy(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), torch.tensor([0])) == {}


def test_the_estimates_of_the_divergence_agree_with_the_truth_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    behaviour, new = torch.randn(2, 6, dtype=torch.float64, generator=generator).log_softmax(1)
    drawn = torch.multinomial(behaviour.exp(), 200_000, replacement=True, generator=generator)
    got = off_policy((new - behaviour)[drawn][None], torch.ones(1, 200_000, dtype=torch.bool), torch.tensor([0]))
    kl = float((behaviour.exp() * (behaviour - new)).sum())
    assert got["kl_behaviour_new_k1"] == pytest.approx(kl, rel=0.02)
    assert got["kl_behaviour_new_k3"] == pytest.approx(kl, rel=0.02)
