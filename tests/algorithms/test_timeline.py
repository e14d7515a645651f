"""Trajectories as lines of sampled tokens, and what is computed along them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.cases import token_table
from askesis.algorithms.timeline import Timeline, generalised_advantages, to_go, whiten


def test_tokens_come_in_the_order_of_time_whatever_rows_they_lie_in() -> None:
    # Trajectory 3 has its turns 0 and 2 in one row and turn 1 in another; trajectory 1 lies between them.
    tokens = token_table([[0, 0, 2], [0], [1, 1]], [3, 1, 3], entropy=[[10.0, 11.0, 14.0], [99.0], [12.0, 13.0]])
    line = Timeline.of(tokens)
    assert line.sequence_S.tolist() == [1, 3]
    assert tokens.entropy_BT is not None
    laid = line.lay(tokens.entropy_BT, padding=-1.0)
    assert laid.tolist() == [[99.0, -1, -1, -1, -1], [10.0, 11.0, 12.0, 13.0, 14.0]]
    back = line.take(laid, tokens.entropy_BT)
    assert torch.equal(back, torch.where(tokens.mask_BT, tokens.entropy_BT, 0.0))


def test_where_a_label_ends() -> None:
    tokens = token_table([[0, 0, 1, 1, 1], [0]])
    line = Timeline.of(tokens)
    assert line.is_last_of(line.lay(tokens.turn_BT)).tolist() == [
        [False, True, False, False, True],
        [True, False, False, False, False],
    ]


def test_no_sampled_token_is_no_line() -> None:
    tokens = token_table([[0, 0]])
    line = Timeline.of(replace(tokens, mask_BT=torch.zeros(1, 2, dtype=torch.bool)))
    assert line.lay(torch.zeros(1, 2)).shape == (0, 0)
    assert generalised_advantages(torch.zeros(0, 0), torch.zeros(0, 0), gamma=1, gae_lambda=1).shape == (0, 0)
    assert Timeline.of(tokens).lay(tokens.turn_BT).tolist() == [[0, 0]]


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=1, max_size=8),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_advantages_are_the_double_sum_of_the_paper(
    numbers: list[tuple[float, float]], gamma: float, lam: float
) -> None:
    reward, value = ([pair[i] for pair in numbers] for i in range(2))
    ahead = [*value[1:], 0.0]
    expected = [
        sum((gamma * lam) ** (j - k) * (reward[j] + gamma * ahead[j] - value[j]) for j in range(k, len(numbers)))
        for k in range(len(numbers))
    ]
    table = (torch.tensor([[*x, 0.0, 0.0]], dtype=torch.float64) for x in (reward, value))
    got = generalised_advantages(*table, gamma=gamma, gae_lambda=lam)
    assert got[0].tolist() == pytest.approx([*expected, 0.0, 0.0], abs=1e-9)


def test_the_sum_that_is_still_to_come() -> None:
    assert to_go(torch.tensor([[1.0, 0.0, 2.0]])).tolist() == [[3.0, 2.0, 2.0]]


def test_each_kind_is_whitened_by_itself() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    kind = torch.tensor([[True], [False]]).expand(2, 3)
    advantage = torch.tensor([[3.0, 5.0, 1e9], [1.0, 2.0, 3.0]], dtype=torch.float64)
    got = whiten(advantage, mask, kind)
    half = 0.5**0.5
    assert got[0].tolist() == pytest.approx([-half, half, 0.0], abs=1e-6)
    assert got[1].tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)
    whole = whiten(advantage, mask)
    assert float(whole[mask].mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(whole[mask].var()) == pytest.approx(1.0, abs=1e-6)
    assert not whole[~mask].any()


def test_one_token_has_nothing_to_differ_from() -> None:
    assert whiten(torch.tensor([[7.0]]), torch.tensor([[True]])).tolist() == [[0.0]]
