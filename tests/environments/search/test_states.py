"""The search world's answer mode: scores are those of outcomes, truth is what was shown."""

from __future__ import annotations

import pytest

from askesis.environments.search.states import SearchAnswers
from askesis.trace import Call, Message, StopReason, Task, Trace, TraceBuilder
from searching import chain

TASK = Task(
    key="k",
    environment="search",
    payload={"question": "Who?", "answers": ["Red Fox"], "facts": ["The boss of A is B.", "The friend of B is C."]},
)


def trace(*told: str) -> Trace:
    """A call for the question, and one for each thing that the policy was told; those in brackets are hints."""
    builder, context = TraceBuilder(), [1]
    for key, text in enumerate(("Who?", *told)):
        role = "user" if key == 0 or text.startswith("(") else "tool"
        builder.record(
            Call(key=key, context=context, sampled=[7], logprobs=[-0.1], messages=(Message(role=role, content=text),))
        )
        context = [*context, 7, 2]
    return builder.finish(StopReason.TERMINATED)


@pytest.mark.parametrize(
    ("text", "em", "f1"),
    [
        ("Red Fox</answer>", 1.0, 1.0),
        ("the red fox </answer>", 1.0, 1.0),
        ("fox</answer>", 0.0, 2 / 3),
        ("Red Fox", 0.0, 0.0),
        ("</answer>Red Fox</answer>", 0.0, 0.0),
        ("cat</answer><answer>Red Fox</answer>", 0.0, 0.0),
        ("cat <answer>Red Fox</answer>", 1.0, 1.0),
    ],
)
def test_the_first_closed_answer_counts(text: str, em: float, f1: float) -> None:
    assert SearchAnswers(reward="em").score(text, TASK) == em
    assert SearchAnswers(reward="f1").score(text, TASK) == pytest.approx(f1)


def test_a_result_leads_to_a_state_and_a_hint_does_not() -> None:
    states = SearchAnswers(reward="em").states(trace("(try again)", "one", "two"))
    assert [(s.index, s.at, s.after) for s in states] == [(0, 0, None), (1, 2, 1), (2, 3, 2)]


def test_the_truth_is_the_share_of_facts_that_were_shown() -> None:
    mode = SearchAnswers(reward="em")
    found = trace("Doc 1(Title: A) The boss of A is B.", "nothing", "Doc 1(Title: B) The friend of B is C.")
    assert [mode.truth(s, found, TASK) for s in mode.states(found)] == [0.0, 0.5, 0.5, 1.0]
    plain = Task(key="k", environment="search", payload={"question": "Who?", "answers": ["x"]})
    assert mode.truth(mode.states(found)[0], found, plain) is None


def test_only_rewards_of_the_answer_alone_have_an_answer_mode() -> None:
    assert isinstance(chain(reward="f1").answer_mode, SearchAnswers)
    assert chain().answer_mode is not None
    for options in ({"reward": "memory"}, {"reward": "structured"}, {"answer": "boxed"}):
        assert chain(**options).answer_mode is None


def test_no_call_no_state() -> None:
    assert SearchAnswers(reward="em").states(TraceBuilder().finish(StopReason.FAILED)) == []
