"""Answers from states: what the policy is shown, what is kept, and what an evaluator may not see."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from askesis.agents.context import MEMORY_REQUEST
from askesis.engines import Sampling
from askesis.environments import World
from askesis.policy.loading import Policy
from askesis.rollout import ANSWER, StateEvaluator
from askesis.store import Group
from askesis.trace import FailureOrigin, Fork, Trace, VerdictStatus, decode, encode
from searching import chain, index_of, play, solver

DRAWN = Sampling(max_tokens=40)
PLAIN = StateEvaluator(judge="policy", answers=1, sampling=DRAWN, request="")


def searched(policy: Policy, evaluator: StateEvaluator = PLAIN, *, hops: int = 2) -> tuple[World, Group]:
    world = chain(min_hops=hops, max_hops=hops)
    index = index_of(world, hops)
    return world, play(policy, world, index, solver(world, index), evaluator=evaluator)


def texts(policy: Policy, trace: Trace) -> list[str]:
    """Context of each fork."""
    return [policy.template.decode(call.context) for call in trace.calls if call.fork is not None]


def test_7a_8_a_state_holds_what_came_before_it_and_nothing_else(tiny: Policy) -> None:
    _, group = searched(tiny, hops=3)
    trace = group.members[0].trace
    acts, forks = trace.acts, [call for call in trace.calls if call.fork is not None]
    assert [call.fork for call in forks] == [Fork(state=t, mode=ANSWER) for t in range(4)]
    prefill = tiny.template.encode_text("<answer>")
    for act, fork in zip(acts, forks, strict=True):
        # By token: what the act was shown, then the beginning of an answer.
        assert fork.context.tolist() == [*act.context.tolist(), *prefill]
    for (t, text), act in zip(enumerate(texts(tiny, trace)), acts, strict=True):
        later = [c.reply.content for c in acts if c.key >= act.key and c.reply is not None]
        assert not any(said in text for said in later)  # by substring: no later search, no final answer
        assert text.count("<information>") == t


def test_7a_8_a_request_comes_behind_the_state_and_sampled_tokens_stay_as_they_were(tiny: Policy) -> None:
    _, group = searched(tiny, replace(PLAIN, request=None))
    trace = group.members[0].trace
    acts, forks = trace.acts, [call for call in trace.calls if call.fork is not None]
    for text in texts(tiny, trace):
        assert "Do not search any more." in text and MEMORY_REQUEST not in text
    for before, act, fork in zip(acts, acts[1:], forks[1:], strict=False):
        told = [*before.context.tolist(), *before.sampled.tolist()]
        assert fork.context[: len(told)].tolist() == told
        shared = next(i for i, (a, b) in enumerate(zip(fork.context, act.context, strict=False)) if a != b)
        assert shared > len(told)  # the result of the search is part of both


def test_7a_8_right_answers_never_reach_a_prompt(tiny: Policy) -> None:
    world = chain(min_hops=2, max_hops=2)
    index = index_of(world, 2)
    gold = world.tasks.task("train", index).payload["answer"]
    # This policy finds nothing of use, so whatever knows the answer has it from the task.
    group = play(tiny, world, index, lambda text, seed: "<search>nobody</search>", evaluator=replace(PLAIN, answers=2))
    for member in group.members:
        assert member.verdict.status is VerdictStatus.OK
        for call in member.trace.calls:
            assert gold not in tiny.template.decode(call.context)


def test_values_are_the_scores_of_the_answers_by_the_worlds_own_reward(tiny: Policy) -> None:
    _, group = searched(tiny)
    states = group.members[0].verdict.states
    assert [s.state for s in states] == [0, 1, 2] and [s.value for s in states] == [0.0, 0.0, 1.0]
    assert [s.truth for s in states] == [0.0, 0.5, 1.0]
    assert [s.after for s in states] == [None, 0, 1]
    keys = [call.key for call in group.members[0].trace.calls if call.fork is not None]
    assert [s.answers for s in states] == [((key, s.value),) for key, s in zip(keys, states, strict=True)]


def test_several_answers_from_a_state_are_averaged_and_have_streams_of_their_own(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)
    solve = solver(world, index)
    seen: list[int] = []

    def sometimes(prompt: str, seed: int) -> str | Exception:
        if not prompt.endswith("<answer>"):
            return solve(prompt, seed)
        seen.append(seed)
        return solve(prompt, seed) if len(seen) % 2 else "nobody</answer>"

    group = play(tiny, world, index, sometimes, evaluator=replace(PLAIN, answers=2), size=1)
    states = group.members[0].verdict.states
    assert [s.value for s in states] == [0.0, 0.5] and [len(s.answers) for s in states] == [2, 2]
    assert len(set(seen)) == 4


def test_the_session_itself_is_judged_as_without_answers(tiny: Policy) -> None:
    world = chain(min_hops=2, max_hops=2)
    index = index_of(world, 2)
    with_states, without = (
        play(tiny, world, index, solver(world, index), evaluator=evaluator) for evaluator in (PLAIN, None)
    )
    for one, other in zip(with_states.members, without.members, strict=True):
        assert replace(one.verdict, states=()) == other.verdict
        assert [c.sampled.tolist() for c in one.trace.acts] == [c.sampled.tolist() for c in other.trace.calls]
        assert one.trace.events == other.trace.events and one.trace.stop is other.trace.stop


def test_each_token_is_kept_once_and_forks_survive_the_codec(tiny: Policy) -> None:
    _, group = searched(tiny, hops=3)
    trace = group.members[0].trace
    again = decode(encode(trace))
    assert [call.fork for call in again.calls] == [call.fork for call in trace.calls]
    last = trace.acts[-1]
    forks = [call for call in trace.calls if call.fork is not None]
    # The states add their answers, the tags before them and nothing else.
    added = trace.num_tokens - len(last.context) - len(last.sampled)
    assert added <= sum(len(f.sampled) + len(tiny.template.encode_text("<answer>")) for f in forks)


def test_without_a_search_there_is_one_state(tiny: Policy) -> None:
    world = chain()

    def direct(prompt: str, seed: int) -> str:
        return "Bado</answer>" if prompt.endswith("<answer>") else "<answer>Bado</answer>"

    group = play(tiny, world, 0, direct, evaluator=PLAIN)
    assert [len(m.verdict.states) for m in group.members] == [1, 1]


def test_a_turn_without_a_search_leads_to_no_state(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)
    solve, turns = solver(world, index), itertools.count()

    def stumbles(prompt: str, seed: int) -> str | Exception:
        if not prompt.endswith("<answer>") and next(turns) == 0:
            return "hm"
        return solve(prompt, seed)

    group = play(tiny, world, index, stumbles, evaluator=PLAIN, size=1)
    (member,) = group.members
    assert len(member.trace.acts) == 3 and [s.after for s in member.verdict.states] == [None, 1]


def test_an_unclosed_answer_is_worth_nothing(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)
    _, group = (
        world,
        play(tiny, world, index, solver(world, index), evaluator=replace(PLAIN, sampling=Sampling(max_tokens=3))),
    )
    assert [s.value for s in group.members[0].verdict.states] == [0.0, 0.0]


@pytest.mark.parametrize("judge", ["oracle", "random"])
def test_judges_that_draw_no_answer(judge: str, tiny: Policy) -> None:
    _, group = searched(tiny, StateEvaluator(judge=judge, answers=1, sampling=DRAWN))  # type: ignore[arg-type]
    values = [[s.value for s in m.verdict.states] for m in group.members]
    assert all(call.fork is None for m in group.members for call in m.trace.calls)
    if judge == "oracle":
        assert values == [[0.0, 0.5, 1.0]] * 2
    else:
        assert len({v for row in values for v in row}) == 6 and all(0 <= v < 1 for row in values for v in row)


def test_another_model_may_answer_and_is_named(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)
    frozen = StateEvaluator(judge="frozen", answers=1, sampling=DRAWN)
    group = play(
        tiny, world, index, solver(world, index), evaluator=frozen, states_script=lambda t, s: "nobody</answer>"
    )
    forks = [call.fork for call in group.members[0].trace.calls if call.fork is not None]
    assert forks == [Fork(state=0, mode="frozen"), Fork(state=1, mode="frozen")]
    assert [s.value for s in group.members[0].verdict.states] == [0.0, 0.0]


def test_what_cannot_be_scored_is_an_error_and_never_a_zero(tiny: Policy) -> None:
    world = chain(min_hops=2, max_hops=2)
    index = index_of(world, 2)
    solve = solver(world, index)

    def broken(prompt: str, seed: int) -> str | Exception:
        return RuntimeError("down") if prompt.endswith("<answer>") else solve(prompt, seed)

    group = play(tiny, world, index, broken, evaluator=PLAIN)
    for member in group.members:
        assert member.verdict.status is VerdictStatus.ERROR and member.verdict.reward is None
        assert member.verdict.error is not None and member.verdict.error.origin is FailureOrigin.EVALUATOR
        assert not any(call.fork for call in member.trace.calls)


def test_a_full_context_costs_the_session_only(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)
    roomy = play(tiny, world, index, solver(world, index), evaluator=None, size=1)
    last = roomy.members[0].trace.acts[-1]
    tight = play(
        tiny,
        world,
        index,
        solver(world, index),
        evaluator=replace(PLAIN, request="x" * 200),
        size=1,
        context_length=len(last.context) + len(last.sampled) + 8,
    )
    error = tight.members[0].verdict.error
    assert error is not None and error.origin is FailureOrigin.ENGINE and "fills the model's context" in error.message


def test_an_oracle_needs_a_world_that_knows(tiny: Policy) -> None:
    world = chain(min_hops=1, max_hops=1)
    index = index_of(world, 1)

    class Blind:
        request, prefill, stop = "", "<answer>", ("</answer>",)
        states, score = world.answer_mode.states, world.answer_mode.score  # type: ignore[union-attr]

        def truth(self, *_: object) -> None:
            return None

    oracle = StateEvaluator(judge="oracle", answers=1, sampling=DRAWN)
    blind = replace(world, answer_mode=Blind())
    group = play(tiny, blind, index, solver(world, index), evaluator=oracle, size=1)
    error = group.members[0].verdict.error
    assert error is not None and "does not know" in error.message
    assert np.isfinite(group.members[0].trace.num_tokens)
