"""Rows, padding and micro-batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.errors import TemplateError
from askesis.learners.batch import Row, Sample, micro_batches, pad, rows_of
from askesis.trace import Call, StopReason, Trace, TraceBuilder

CPU = torch.device("cpu")


def trace(*calls: tuple[list[int], list[int]]) -> Trace:
    return TraceBuilder(
        Call(key=i, context=context, sampled=sampled, logprobs=[-float(t) / 10 for t in sampled])
        for i, (context, sampled) in enumerate(calls)
    ).finish(StopReason.TERMINATED)


def sample(*calls: tuple[list[int], list[int]]) -> Sample:
    return Sample(trace_id="t", trace=trace(*calls), reward=1.0, group=0)


def test_a_dialogue_is_one_row_and_its_mask_marks_what_was_sampled() -> None:
    (row,) = rows_of([sample(([1, 2], [3]), ([1, 2, 3, 4], [5, 6]))])
    assert row.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert row.mask.tolist() == [False, False, True, False, True, True]
    assert row.behaviour.tolist() == pytest.approx([0, 0, -0.3, 0, -0.5, -0.6])


def test_a_fork_gives_two_rows_and_trains_each_token_once() -> None:
    rows = rows_of([sample(([1], [7]), ([1, 7, 2], [3]), ([1, 7, 4], [5]))])
    assert [r.tokens[r.mask].tolist() for r in rows] == [[7, 3], [5]]
    assert {r.sample for r in rows} == {0}


def test_a_trace_without_calls_is_refused() -> None:
    with pytest.raises(TemplateError, match="without a single call"):
        rows_of([Sample(trace_id="t", trace=TraceBuilder().finish(StopReason.FAILED), reward=0.0, group=0)])


def test_padding_is_on_the_right_and_outside_the_mask() -> None:
    rows = rows_of([sample(([1], [3])), sample(([1, 2], [3, 4]))])
    batch = pad(rows, [1, 0], CPU)
    assert batch.ids_BT.tolist() == [[1, 2, 3, 4], [1, 3, 0, 0]]
    assert batch.mask_BT.tolist() == [[False, False, True, True], [False, True, False, False]]
    assert (batch.first, batch.sample_B.tolist(), batch.row_B.tolist()) == (1, [1, 0], [1, 0])


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 200))
def test_micro_batches_cover_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    rows = [rows_of([sample((list(range(1, n)), [1]))])[0] for n in lengths]
    batches = list(micro_batches(rows, budget))
    assert sorted(i for b in batches for i in b) == list(range(len(rows)))
    for batch in batches:
        padded = len(batch) * max(len(rows[i].tokens) for i in batch)
        assert padded <= budget or len(batch) == 1


def test_rows_are_plain_values() -> None:
    (row,) = rows_of([sample(([1], [3]))])
    assert isinstance(row, Row)
    with pytest.raises(AttributeError):
        row.sample = 3  # type: ignore[misc]
