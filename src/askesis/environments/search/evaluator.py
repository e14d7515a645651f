"""Judging an answer to a search question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from askesis.agents.parsing import last_boxed
from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.search.conversations import conversations, replies_of, segments_of
from askesis.environments.search.rewards import memory_reward, structured_reward
from askesis.environments.search.scoring import exact_match, f1, normalise, sub_exact_match
from askesis.trace.tree import Trace
from askesis.trace.types import Failure, FailureOrigin, StopReason, Task, Verdict, VerdictStatus

__all__ = ["REWARDS", "Reward", "SearchEvaluator"]

Reward = Literal["em", "f1", "structured", "memory"]

REWARDS: tuple[Reward, ...] = ("em", "f1", "structured", "memory")
_SHOWN = 500  # characters of an answer that are kept


@dataclass(frozen=True, kw_only=True)
class SearchEvaluator:
    """Scores the last answer that the policy itself wrote; what it was told in return is never read as its own.

    A policy without an answer gets 0. ``completed`` is exact match, whatever the reward is.

    Args:
        reward: ``em`` (Search-R1), ``f1``, ``structured`` (Search-R1 v0.3) or ``memory`` (MemSearcher).
        boxed: answers are marked by ``\\boxed{}``; otherwise by ``<answer>``.
        thinks: the reward ``memory`` asks for a thought.
    """

    reward: Reward = "em"
    boxed: bool = False
    thinks: bool = True
    version: str = "search-qa/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict; never raises because of what the policy wrote."""
        talks = conversations(trace)
        said = [text for calls in talks for text in replies_of(calls)]
        if not said:
            failure = Failure(origin=FailureOrigin.EVALUATOR, kind="no_reply", message="the trace holds no reply")
            return Verdict(status=VerdictStatus.ERROR, evaluator=self.version, error=failure)
        golds = [str(gold) for gold in task.payload["answers"]]
        answer = self._answer(said)
        value = self._reward(trace, answer, golds)
        em = 0.0 if answer is None else exact_match(answer, golds)
        evidence: dict[str, Any] = {
            "answer": None if answer is None else answer[:_SHOWN].encode("utf-8", "replace").decode(),
            "em": em,
            "f1": 0.0 if answer is None else f1(answer, golds),
            "sub_em": 0.0 if answer is None else sub_exact_match(answer, golds),
            **_behaviour(trace, golds),
        }
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={self.reward: (value, 1.0)},
            completed=em == 1.0,
            evidence=evidence,
        )

    def _answer(self, replies: Sequence[str]) -> str | None:
        found = [last_boxed(text) if self.boxed else extract_answer(text) for text in replies]
        return next((answer for answer in reversed(found) if answer is not None), None)

    def _reward(self, trace: Trace, answer: str | None, golds: Sequence[str]) -> float:
        if self.reward == "memory":
            last = conversations(trace)[-1]
            # A memory at the end of the budget is no answer, even when it looks like one.
            ended = trace.stop is StopReason.TERMINATED and last[-1].finish == "stop"
            return memory_reward(replies_of(last), golds, ended=ended, thinks=self.thinks, boxed=self.boxed)
        if self.reward == "structured":
            return structured_reward(segments_of(trace.acts), golds, answer=answer)
        if answer is None:
            return 0.0
        return exact_match(answer, golds) if self.reward == "em" else f1(answer, golds)


def _behaviour(trace: Trace, golds: Sequence[str]) -> dict[str, Any]:
    """How the policy went about it: numbers for reports and claims, of which no reward is made."""
    events = [str(event.get("event")) for event in trace.events]
    lengths = [len(call.context) for call in trace.acts]
    talks = conversations(trace)
    told = [
        normalise(m.content)
        for calls in talks
        for call in calls[1:]
        for m in call.messages
        if m.role in ("tool", "user")
    ]
    return {
        "searches": events.count("tool_call"),
        "invalid": events.count("invalid"),
        "contexts": len(talks),
        "peak_context": max(lengths),
        "mean_context": sum(lengths) / len(lengths),
        "recall": any(normalise(gold) in text for gold in golds for text in told),
    }
