"""Verdicts: what counts as the answer, in one conversation and in several."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from askesis.environments.play import trace_of
from askesis.environments.search.evaluator import Reward, SearchEvaluator
from askesis.trace import Message, StopReason, Task, Trace, Verdict, VerdictStatus

TASK = Task(key="k", environment="search", payload={"question": "Q?", "answers": ["Paris"]})
RIGHT = "<answer>Paris</answer>"


def score(evaluator: SearchEvaluator, trace: Trace) -> Verdict:
    return asyncio.run(evaluator.score(trace, TASK))


@pytest.mark.parametrize(
    ("replies", "reward", "value", "completed"),
    [
        (["<search>x</search>", RIGHT], "em", 1.0, True),
        ([RIGHT, "<answer>Rome</answer>"], "em", 0.0, False),
        (["nothing"], "em", 0.0, False),
        (["<answer>Paris, France</answer>"], "em", 0.0, False),
        (["<answer>Paris, France</answer>"], "f1", 2 / 3, False),
        ([f"<think>x</think>{RIGHT}"], "structured", 1.0, True),
        ([RIGHT], "structured", 0.8, True),
        ([f"<think>x</think>{RIGHT}"], "memory", 1.0, True),
        ([RIGHT], "memory", 0.0, True),
    ],
)
def test_rewards(replies: list[str], reward: Reward, value: float, completed: bool) -> None:
    verdict = score(SearchEvaluator(reward=reward), trace_of(TASK, replies))
    assert verdict.reward == pytest.approx(value) and verdict.completed is completed
    assert set(verdict.rewards) == {reward}


def test_what_the_policy_was_told_is_not_its_answer() -> None:
    trace = trace_of(TASK, ["<search>x</search>", "hm"])
    told = Message(role="tool", content=f"<information>{RIGHT}</information>")
    trace = replace(trace, calls=(trace.calls[0], replace(trace.calls[1], messages=(told,))))
    verdict = score(SearchEvaluator(), trace)
    assert verdict.reward == 0.0 and verdict.evidence["answer"] is None and verdict.evidence["recall"] is True


def test_a_session_that_was_cut_gets_no_reward_for_a_memory_that_looks_like_an_answer() -> None:
    evaluator = SearchEvaluator(reward="memory", thinks=False)
    trace = trace_of(TASK, [RIGHT])
    assert score(evaluator, trace).reward == 1.0
    for stop in (StopReason.MAX_TOOL_CALLS, StopReason.MALFORMED, StopReason.MAX_TURNS):
        assert score(evaluator, replace(trace, stop=stop)).reward == 0.0
    cut = replace(trace, calls=(replace(trace.calls[0], finish="length"),))
    assert score(evaluator, cut).reward == 0.0


def test_boxed_answers() -> None:
    verdict = score(SearchEvaluator(boxed=True, reward="memory"), trace_of(TASK, [r"<think>x</think>\boxed{Paris}"]))
    assert verdict.reward == 1.0 and verdict.evidence["answer"] == "Paris"


def test_evidence_counts_and_a_trace_without_a_reply_is_an_error() -> None:
    trace = trace_of(TASK, ["<search>x</search>", RIGHT])
    events = ({"event": "tool_call"}, {"event": "invalid"}, {"event": "tool_call"})
    evidence = score(SearchEvaluator(), replace(trace, events=events)).evidence
    assert (evidence["searches"], evidence["invalid"], evidence["peak_context"]) == (2, 1, len(trace.calls[1].context))
    assert (evidence["em"], evidence["f1"], evidence["sub_em"]) == (1.0, 1.0, 1.0)
    verdict = score(SearchEvaluator(), trace_of(TASK, []))
    assert verdict.status is VerdictStatus.ERROR and verdict.reward is None
