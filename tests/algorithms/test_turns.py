"""Responses are found by trajectory and turn, wherever their tokens stand."""

from __future__ import annotations

from dataclasses import replace

import torch

from algorithms.cases import token_table
from askesis.algorithms.turns import mean_by, responses, spread_evenly

# Trajectory 1 has turn 1 in its first row and turn 0 in its second; trajectory 0 has two turns in one row.
TOKENS = token_table([[1, 1], [0, 1, 1], [0]], [1, 0, 1])


def test_the_order_is_that_of_trajectory_and_turn() -> None:
    table = responses(TOKENS)
    assert table.token_to_response_N.tolist() == [3, 3, 0, 1, 1, 2]
    assert table.sequence_R.tolist() == [0, 0, 1, 1]
    assert table.size_R.tolist() == [1, 2, 1, 2]
    assert table.first_R.tolist() == [2, 3, 5, 0]


def test_rows_in_another_order_form_the_same_responses() -> None:
    order = torch.tensor([2, 0, 1])
    columns = ("mask_BT", "sequence_B", "turn_BT", "logp_behaviour_BT")
    table = responses(replace(TOKENS, **{name: getattr(TOKENS, name)[order] for name in columns}))
    assert table.token_to_response_N.tolist() == [2, 3, 3, 0, 1, 1]
    assert table.sequence_R.tolist() == [0, 0, 1, 1] and table.size_R.tolist() == [1, 2, 1, 2]


def test_turn_numbers_may_be_any() -> None:
    far = replace(TOKENS, turn_BT=TOKENS.turn_BT * 10**6 - 5)
    assert torch.equal(responses(far).token_to_response_N, responses(TOKENS).token_to_response_N)


def test_a_batch_without_tokens_has_no_responses() -> None:
    table = responses(replace(TOKENS, mask_BT=torch.zeros_like(TOKENS.mask_BT)))
    assert [len(column) for column in table] == [0, 0, 0, 0]


def test_every_token_gets_the_advantage_of_its_trajectory() -> None:
    got = spread_evenly(torch.tensor([5.0, -1.0]), TOKENS)
    assert got.tolist() == [[-1.0, -1.0, 0.0], [5.0, 5.0, 5.0], [-1.0, 0.0, 0.0]]


def test_means_by_index() -> None:
    got = mean_by(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 2, 2]), 3)
    assert got.tolist() == [1.0, 0.0, 4.0] and got.dtype == torch.float64
