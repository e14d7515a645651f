"""Packing: every prefix once, every sequence whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from askesis.policy.forest import Forest, common_prefix, pack, sort_key

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


def forest_of(*sequences: list[int]) -> Forest:
    return pack([np.array(s, np.uint32) for s in sequences])


def test_two_answers_to_one_prompt_by_hand() -> None:
    forest = forest_of([5, 6, 7, 9], [5, 6, 7, 8, 8])
    assert forest.ids_N.tolist() == [5, 6, 7, 8, 8, 9]
    assert forest.position_N.tolist() == [0, 1, 2, 3, 4, 3]
    assert forest.parent_N.tolist() == [-1, 0, 1, 2, 3, 2]
    assert (forest.start_R.tolist(), forest.stop_R.tolist(), forest.end_R.tolist()) == ([0, 3, 5], [3, 5, 6], [6, 5, 6])
    assert forest.level_R.tolist() == [0, 1, 1]
    assert [row.tolist() for row in forest.rows] == [[0, 1, 2, 5], [0, 1, 2, 3, 4]]
    assert forest.num_path_tokens == 9


def test_a_chain_is_one_run_even_where_a_shorter_sequence_ends() -> None:
    forest = forest_of([1, 2], [1, 2, 3, 4], [1, 2, 3, 4])
    assert (forest.start_R.tolist(), forest.end_R.tolist(), len(forest.ids_N)) == ([0], [4], 4)


@given(SEQUENCES)
def test_every_sequence_can_be_read_back_and_every_prefix_is_there_once(sequences: list[list[int]]) -> None:
    forest = forest_of(*sequences)
    for sequence, row in zip(sequences, forest.rows, strict=True):
        assert forest.ids_N[row].tolist() == sequence
        assert forest.position_N[row].tolist() == list(range(len(sequence)))
        assert forest.parent_N[row].tolist() == [-1, *row[:-1].tolist()]
    assert len(forest.ids_N) == len({tuple(s[: i + 1]) for s in sequences for i in range(len(s))})


@given(SEQUENCES)
def test_a_token_sees_its_branch_and_nothing_else(sequences: list[list[int]]) -> None:
    forest = forest_of(*sequences)
    for token in range(len(forest.ids_N)):
        above, current = set(), token
        while current >= 0:
            above.add(current)
            current = int(forest.parent_N[current])
        seen = {j for j in range(len(forest.ids_N)) if j <= token < forest.end_N[j]}
        assert seen == above


@given(SEQUENCES)
def test_runs_are_as_long_as_possible(sequences: list[list[int]]) -> None:
    forest = forest_of(*sequences)
    children = np.bincount(forest.parent_N[forest.parent_N >= 0], minlength=len(forest.ids_N))
    for start, stop in zip(forest.start_R, forest.stop_R, strict=True):
        assert all(children[start : stop - 1] == 1)  # no fork inside
        assert children[stop - 1] != 1  # and no run that its only child could continue


@given(st.lists(st.integers(0, 2**32 - 1), max_size=6), st.lists(st.integers(0, 2**32 - 1), max_size=6))
def test_keys_sort_as_the_sequences_do(a: list[int], b: list[int]) -> None:
    left, right = np.array(a, np.uint32), np.array(b, np.uint32)
    assert (sort_key(left) < sort_key(right)) == (a < b)
    shared = common_prefix(left, right)
    assert a[:shared] == b[:shared] and a[shared : shared + 1] + b[shared : shared + 1] not in ([x, x] for x in a)
