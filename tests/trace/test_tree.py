"""The token tree: hand-drawn cases, then properties over random sessions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.errors import TraceError
from askesis.trace import Call, StopReason, TraceBuilder, encode


def call(key: int, context: list[int], sampled: list[int]) -> Call:
    return Call(key=key, context=context, sampled=sampled, logprobs=[-0.5] * len(sampled), policy_version=key)


def shape(builder: TraceBuilder) -> list[tuple[int | None, list[int], int | None, int]]:
    trace = builder.finish(StopReason.TERMINATED)
    return [(n.parent, n.tokens.tolist(), n.call, n.offset) for n in trace.nodes]


def test_answers_to_one_prompt_fork_after_it() -> None:
    builder = TraceBuilder([call(0, [1, 2], [7]), call(1, [1, 2], [8, 9])])
    assert shape(builder) == [(None, [1, 2], None, 0), (0, [7], 0, 0), (0, [8, 9], 1, 0)]


def test_equal_draws_stay_two_draws() -> None:
    trace = TraceBuilder([call(0, [1], [7, 8]), call(1, [1], [7, 8])]).finish(StopReason.TERMINATED)
    assert [n.call for n in trace.nodes] == [None, 0, 1]
    assert [b.owned.tolist() for b in trace.branches()] == [[False, True, True]] * 2


def test_a_dialogue_is_a_path() -> None:
    builder = TraceBuilder([call(0, [1], [7]), call(1, [1, 7, 4], [8]), call(2, [1, 7, 4, 8, 5], [9])])
    assert [row[0] for row in shape(builder)] == [None, 0, 1, 2, 3, 4]
    branch = builder.finish(StopReason.TERMINATED).branches()[0]
    assert branch.tokens.tolist() == [1, 7, 4, 8, 5, 9]
    assert branch.sampled.tolist() == [False, True, False, True, False, True]
    assert branch.policy_version.tolist() == [-1, 0, -1, 1, -1, 2]


def test_a_rewritten_context_opens_a_second_root() -> None:
    builder = TraceBuilder([call(0, [1, 2], [7]), call(1, [3, 2], [8])])
    assert [row[0] for row in shape(builder)] == [None, 0, None, 2]


def test_leaving_a_sampled_run_half_way_splits_it_and_keeps_its_owner() -> None:
    builder = TraceBuilder([call(0, [1], [7, 8, 9]), call(1, [1, 7, 5], [6])])
    assert shape(builder) == [
        (None, [1], None, 0),
        (0, [7], 0, 0),
        (1, [8, 9], 0, 1),
        (1, [5], None, 0),
        (3, [6], 1, 0),
    ]
    owned = [b.tokens[b.owned].tolist() for b in builder.finish(StopReason.TERMINATED).branches()]
    assert owned == [[7, 8, 9], [6]]


def test_end_of_finds_the_last_node_of_a_split_call() -> None:
    trace = TraceBuilder([call(0, [1], [7, 8, 9]), call(1, [1, 7, 5], [6])]).finish(StopReason.TERMINATED)
    assert trace.branch(trace.end_of(0)).tokens.tolist() == [1, 7, 8, 9]
    assert (trace.num_tokens, trace.num_sampled) == (6, 4)


def test_a_taken_key_is_refused() -> None:
    builder = TraceBuilder([call(0, [1], [2])])
    with pytest.raises(TraceError, match="same key"):
        builder.record(call(0, [1], [3]))


@pytest.mark.parametrize(
    ("context", "sampled", "logprobs"),
    [([], [1], [-1.0]), ([1], [], []), ([1], [2], [-1.0, -1.0]), ([1], [2], [float("nan")]), ([1], [2], [0.5])],
)
def test_impossible_calls_are_refused(context: list[int], sampled: list[int], logprobs: list[float]) -> None:
    with pytest.raises(TraceError):
        Call(key=0, context=context, sampled=sampled, logprobs=logprobs)


@st.composite
def sessions(draw: st.DrawFn) -> list[Call]:
    """Calls whose contexts start afresh, extend earlier calls, or leave them half-way; few ids, so that collisions
    abound.
    """
    ids = st.lists(st.integers(0, 2), min_size=1, max_size=5)
    calls: list[Call] = []
    for key in range(draw(st.integers(1, 8))):
        prefix: list[int] = []
        if calls and draw(st.booleans()):
            earlier = draw(st.sampled_from(calls))
            whole = [*earlier.context.tolist(), *earlier.sampled.tolist()]
            prefix = whole[: draw(st.integers(1, len(whole)))]
        calls.append(call(key, prefix + draw(ids), draw(ids)))
    return calls


@settings(max_examples=120, deadline=None)
@given(sessions())
def test_a_branch_gives_back_the_ids_sent_and_returned(calls: list[Call]) -> None:
    trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
    for one in calls:
        branch = trace.branch(trace.end_of(one.key))
        assert branch.tokens.tolist() == [*one.context.tolist(), *one.sampled.tolist()]
        assert branch.call[-len(one.sampled) :].tolist() == [one.key] * len(one.sampled)


@settings(max_examples=120, deadline=None)
@given(sessions())
def test_every_sampled_token_has_exactly_one_owner(calls: list[Call]) -> None:
    trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
    owned: dict[int, int] = dict.fromkeys((c.key for c in calls), 0)
    for branch in trace.branches():
        assert np.array_equal(branch.sampled, branch.call >= 0)
        for key in branch.call[branch.owned].tolist():
            owned[key] += 1
    assert owned == {c.key: len(c.sampled) for c in calls}
    assert sum(len(n.tokens) for n in trace.nodes if n.call is not None) == trace.num_sampled


@settings(max_examples=100, deadline=None)
@given(sessions(), st.randoms(use_true_random=False))
def test_any_order_of_insertion_gives_the_same_tree(calls: list[Call], random: object) -> None:
    shuffled = list(calls)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert encode(TraceBuilder(shuffled).finish(StopReason.TERMINATED)) == encode(
        TraceBuilder(calls).finish(StopReason.TERMINATED)
    )


@settings(max_examples=100, deadline=None)
@given(sessions())
def test_no_context_token_is_stored_twice(calls: list[Call]) -> None:
    trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
    for index, node in enumerate(trace.nodes):
        siblings = [n for i, n in enumerate(trace.nodes) if n.parent == node.parent and i != index]
        if node.call is None:
            assert all(s.tokens[0] != node.tokens[0] for s in siblings if s.call is None)


def test_every_token_knows_the_weights_that_drew_it() -> None:
    calls = [
        Call(key=0, context=[1], sampled=[5, 6, 7, 8], logprobs=[-1.0] * 4, policy_version=2, swaps=((1, 3), (3, 7))),
        Call(key=1, context=[1, 5, 6, 9], sampled=[4], logprobs=[-1.0], policy_version=8),
    ]
    trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
    assert calls[0].versions.tolist() == [2, 3, 3, 7] and trace.oldest_version == 2
    # the second call leaves the first one after two tokens, so the node is split there
    assert sorted(branch.policy_version.tolist() for branch in trace.branches()) == [
        [-1, 2, 3, -1, 8],
        [-1, 2, 3, 3, 7],
    ]
    assert TraceBuilder().finish(StopReason.FAILED).oldest_version is None


@pytest.mark.parametrize("swaps", [((0, 3),), ((2, 3),), ((1, 2),), ((1, 3), (1, 4)), ((1, 3), (2, 3)), ((1, 2.5),)])
def test_weights_that_change_in_an_impossible_order_are_refused(swaps: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(TraceError, match="impossible order"):
        Call(key=0, context=[1], sampled=[5, 6], logprobs=[-1.0] * 2, policy_version=2, swaps=swaps)
