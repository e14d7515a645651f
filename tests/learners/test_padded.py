"""The oracle: one row per branch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.learners.batch import Row, Sample, rows_of
from askesis.learners.padded import PaddedScorer
from askesis.policy.loading import Policy
from askesis.trace import Call, StopReason, TraceBuilder


def row(context: list[int], sampled: list[int]) -> Row:
    call = Call(key=0, context=context, sampled=sampled, logprobs=[-1.0] * len(sampled))
    trace = TraceBuilder([call]).finish(StopReason.TERMINATED)
    return rows_of([Sample(trace_id="t", trace=trace, reward=1.0, group=0)])[0]


@torch.no_grad()
def test_scores_are_those_of_one_sequence_at_a_time(tiny: Policy) -> None:
    rows = [row([5, 6, 7], [8, 9]), row([5], [7]), row([9, 9], [1, 2, 3, 4])]
    scores = PaddedScorer(tiny.model, temperature=0.7)(rows)
    for place, (tokens, start, size) in enumerate(
        (([5, 6, 7, 8, 9], 3, 2), ([5, 7], 1, 1), ([9, 9, 1, 2, 3, 4], 2, 4))
    ):
        logp = (tiny.model(input_ids=torch.tensor([tokens])).logits[0] / 0.7).log_softmax(-1)
        expected = [float(logp[t - 1, tokens[t]]) for t in range(start, start + size)]
        assert scores.logp_BT[place].tolist() == pytest.approx(expected + [0.0] * (4 - size), abs=1e-5)
        entropy = -(logp[start - 1 : start - 1 + size].exp() * logp[start - 1 : start - 1 + size]).sum(-1)
        assert scores.entropy_BT[place, :size].tolist() == pytest.approx(entropy.tolist(), abs=1e-5)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 200))
def test_micro_batches_cover_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    rows = [row(list(range(1, n)), [1]) for n in lengths]
    batches = list(PaddedScorer(None, temperature=1.0).micro_batches(rows, budget))
    assert sorted(i for b in batches for i in b) == list(range(len(rows)))
    for batch in batches:
        padded = len(batch) * max(len(rows[i].tokens) for i in batch)
        assert padded <= budget or len(batch) == 1
