"""Answers from the middle of a search: which states an episode went through, and what an answer from one is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from askesis.environments.protocol import State
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.search.scoring import exact_match, f1
from askesis.trace.tree import Trace
from askesis.trace.types import Task

__all__ = ["REQUEST", "SearchAnswers"]

REQUEST = (
    "Do not search any more. Answer the question now, from what you have read so far. Give only a short answer inside "
    "<answer> and </answer>."
)
"""What the policy is asked in a state, unless a recipe says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SearchAnswers:
    """State t is what the policy was shown after t searches; state 0 is the question alone.

    Zhang et al. 2026 (OASES), arXiv 2604.03675, sections on search states and their evaluation; wording inferred. A
    turn that executed no search leads to no state. A search whose result the policy never saw, because the session was
    cut, leads to none either. An answer begins inside ``<answer>``, so it is short and has the right form.

    Args:
        reward: what an answer is worth: the world's own outcome reward, ``em`` or ``f1``.
    """

    reward: Literal["em", "f1"]
    request: str = REQUEST
    prefill: str = "<answer>"
    stop: tuple[str, ...] = ("</answer>",)

    def states(self, trace: Trace) -> Sequence[State]:
        """In order. One result of a tool, or several of one reply, make one state."""
        acts = trace.acts
        if not acts:
            return []
        found = [State(index=0, at=acts[0].key, after=None)]
        for before, act in pairwise(acts):
            if any(message.role == "tool" for message in act.messages):
                found.append(State(index=len(found), at=act.key, after=before.key))
        return found

    def score(self, text: str, task: Task) -> float:
        """The outcome reward of the first ``<answer>`` of ``prefill`` and ``text``; 0 where it is not closed."""
        head, close, _ = (self.prefill + text).partition("</answer>")
        answer = extract_answer(head + close)
        if answer is None:
            return 0.0
        golds = [str(gold) for gold in task.payload["answers"]]
        return exact_match(answer, golds) if self.reward == "em" else f1(answer, golds)

    def truth(self, state: State, trace: Trace, task: Task) -> float | None:
        """The share of the facts behind the answer that the policy had been shown; None where they are not known."""
        facts = task.payload.get("facts")
        if not facts:
            return None
        told = [m.content for act in trace.acts if act.key <= state.at for m in act.messages if m.role == "tool"]
        return sum(any(fact in text for text in told) for fact in facts) / len(facts)
