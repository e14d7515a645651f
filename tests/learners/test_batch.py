"""Rows, and tables of sampled tokens."""

from __future__ import annotations

import pytest
import torch

from askesis.errors import TemplateError
from askesis.learners.batch import Row, Sample, TokenTable, rows_of
from askesis.trace import Call, StopReason, Trace, TraceBuilder

CPU = torch.device("cpu")


def trace(*calls: tuple[list[int], list[int]]) -> Trace:
    return TraceBuilder(
        Call(key=i, context=context, sampled=sampled, logprobs=[-float(t) / 10 for t in sampled])
        for i, (context, sampled) in enumerate(calls)
    ).finish(StopReason.TERMINATED)


def sample(*calls: tuple[list[int], list[int]]) -> Sample:
    return Sample(trace_id="t", trace=trace(*calls), reward=1.0, group=0)


def test_a_dialogue_is_one_row_that_says_where_its_sampled_tokens_are() -> None:
    (row,) = rows_of([sample(([1, 2], [3]), ([1, 2, 3, 4], [5, 6]))])
    assert row.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert (row.at.tolist(), row.turn.tolist()) == ([2, 4, 5], [0, 1, 1])
    assert row.behaviour.tolist() == pytest.approx([-0.3, -0.5, -0.6])


def test_a_fork_gives_two_rows_and_trains_each_token_once() -> None:
    rows = rows_of([sample(([1], [7]), ([1, 7, 2], [3]), ([1, 7, 4], [5]))])
    assert [r.tokens[r.at].tolist() for r in rows] == [[7, 3], [5]]
    assert [r.turn.tolist() for r in rows] == [[0, 1], [2]]
    assert {r.sample for r in rows} == {0}


def test_a_trace_without_calls_is_refused() -> None:
    with pytest.raises(TemplateError, match="without a single call"):
        rows_of([Sample(trace_id="t", trace=TraceBuilder().finish(StopReason.FAILED), reward=0.0, group=0)])


def test_a_table_has_the_sampled_tokens_side_by_side() -> None:
    rows = rows_of([sample(([1], [3])), sample(([1, 2, 9, 9], [3, 4]))])
    table = TokenTable.of(rows, CPU)
    assert table.mask_BT.tolist() == [[True, False], [True, True]]
    assert table.sequence_B.tolist() == [0, 1]
    assert table.turn_BT.tolist() == [[0, 0], [0, 0]]
    assert table.behaviour_BT.flatten().tolist() == pytest.approx([-0.3, 0, -0.3, -0.4])


def test_rows_are_plain_values() -> None:
    (row,) = rows_of([sample(([1], [3]))])
    assert isinstance(row, Row)
    with pytest.raises(AttributeError):
        row.sample = 3  # type: ignore[misc]
