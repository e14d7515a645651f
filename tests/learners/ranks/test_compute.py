"""Who computes what in which round. What comes of it: tests/learners/ranks/test_learner.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.learners.ranks.compute import deal


def test_the_dearest_go_first_and_side_by_side() -> None:
    assert deal([3, 9, 1, 8, 3], 2) == [[1, 3], [0, 4], [2, None]]


def test_fewer_micro_batches_than_ranks() -> None:
    assert deal([5], 3) == [[0, None, None]]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=30), st.integers(1, 5))
def test_each_once_and_no_other_order_waits_less(costs: list[int], size: int) -> None:
    rounds = deal(costs, size)
    assert all(len(places) == size for places in rounds)
    assert sorted(i for places in rounds for i in places if i is not None) == list(range(len(costs)))
    waits = [max(costs[i] for i in places if i is not None) for places in rounds]
    assert sum(waits) == sum(sorted(costs, reverse=True)[::size])
