"""Judging a quiz: one reward at the end, for the questions that count."""

from __future__ import annotations

from dataclasses import dataclass, replace

from askesis.environments.reasoning.evaluator import ReasoningEvaluator
from askesis.trace.tree import Trace
from askesis.trace.types import Task, Verdict, VerdictStatus

__all__ = ["QuizEvaluator"]


@dataclass(frozen=True)
class QuizEvaluator:
    """Reward 1 when every question that counts is answered right, else 0; the other answers are not looked at.

    A question that the policy did not get to, for want of tokens or turns, is not right. When the scorer fails on one,
    so does the verdict.
    """

    inner: ReasoningEvaluator

    @property
    def version(self) -> str:
        """That of the scorer inside, marked as ours."""
        return f"quiz/1 {self.inner.version}"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict; never raises because of what the policy wrote."""
        right: list[bool] = []
        answers: list[str | None] = []
        for turn, question in enumerate(task.payload["questions"]):
            if not question["counts"]:
                continue
            if turn >= len(trace.calls):
                right.append(False)
                answers.append(None)
                continue
            alone = replace(task, payload=question)
            verdict = await self.inner.score(replace(trace, calls=(trace.calls[turn],)), alone)
            if verdict.status is not VerdictStatus.OK:
                return replace(verdict, evaluator=self.version)
            right.append(bool(verdict.completed))
            answers.append(verdict.evidence["answer"])
        given = [answer for answer in answers if answer is not None]
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={"all_right": (float(all(right)), 1.0)},
            completed=all(right),
            evidence={
                "right": right,
                "answers": answers,
                "answer": " | ".join(given) if len(given) == len(answers) else None,
            },
        )
