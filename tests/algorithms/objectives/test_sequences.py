"""Sequences whose rows stand anywhere."""

from __future__ import annotations

import torch

from askesis.algorithms.objectives.sequences import sequences

MASK = torch.tensor([[True, True], [True, False], [True, False], [False, False]])
TABLE = sequences(MASK, torch.tensor([8, -1, 8, 3]))


def test_tokens_totals_and_means() -> None:
    assert TABLE.row_to_sequence_B.tolist() == [2, 0, 2, 1]
    assert TABLE.num_tokens_S.tolist() == [1, 0, 3]
    value_BT = torch.tensor([[1.0, 2.0], [5.0, 0.0], [6.0, 0.0], [0.0, 0.0]])
    assert TABLE.total(value_BT).tolist() == [5.0, 0.0, 9.0]
    assert TABLE.mean(value_BT).tolist() == [5.0, 0.0, 3.0]
    assert TABLE.to_rows(torch.tensor([10.0, 20.0, 30.0])).tolist() == [[30.0], [10.0], [30.0], [20.0]]


def test_diagnostics_count_sequences_with_a_token() -> None:
    value_S = torch.tensor([1.0, 99.0, 4.0])
    assert TABLE.sums(value_S).mean() == 2.5
    assert TABLE.sums(value_S, torch.tensor([True, True, False])).mean() == 1.0
    assert TABLE.sums(value_S, torch.zeros(3, dtype=torch.bool)).mean() is None
    assert TABLE.sums(value_S > 2).mean() == 0.5
