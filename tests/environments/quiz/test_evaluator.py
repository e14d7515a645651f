"""Only what counts is looked at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from askesis.environments.play import trace_of
from askesis.environments.quiz.evaluator import QuizEvaluator
from askesis.environments.reasoning.evaluator import ReasoningEvaluator
from askesis.trace import Failure, FailureOrigin, Task, Trace, Verdict, VerdictStatus


@dataclass
class Exact(ReasoningEvaluator):
    """Right is what equals the answer, ``broken`` fails. It needs no worker and no data set."""

    worker: None = None  # type: ignore[assignment]
    version: str = "exact/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        reply = trace.calls[-1].reply
        assert reply is not None and len(trace.calls) == 1
        if reply.content == "broken":
            failure = Failure(origin=FailureOrigin.EVALUATOR, kind="crash", message="it broke")
            return Verdict(status=VerdictStatus.ERROR, evaluator=self.version, error=failure)
        right = reply.content == task.payload["answer"]
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={"correct": (float(right), 1.0)},
            completed=right,
            evidence={"answer": reply.content or None},
        )


TASK = Task(
    key="quiz/train/0",
    environment="quiz",
    payload={
        "questions": [
            {"counts": True, "answer": "a"},
            {"counts": False, "answer": "b"},
            {"counts": True, "answer": "c"},
        ]
    },
)


def judged(*replies: str) -> Verdict:
    return asyncio.run(QuizEvaluator(Exact()).score(trace_of(TASK, replies), TASK))


@pytest.mark.parametrize(
    ("replies", "reward", "right"),
    [
        (("a", "b", "c"), 1.0, [True, True]),
        (("a", "wrong", "c"), 1.0, [True, True]),
        (("a", "broken", "c"), 1.0, [True, True]),
        (("wrong", "b", "c"), 0.0, [False, True]),
        (("a", "b", "wrong"), 0.0, [True, False]),
        (("a", "b"), 0.0, [True, False]),
        (("a", "b", "c", "more"), 1.0, [True, True]),
    ],
)
def test_the_reward_hangs_on_the_questions_that_count(
    replies: tuple[str, ...], reward: float, right: list[bool]
) -> None:
    verdict = judged(*replies)
    assert (verdict.reward, verdict.completed, verdict.evidence["right"]) == (reward, reward == 1.0, right)
    assert verdict.evaluator == "quiz/1 exact/1"


def test_the_answer_is_known_when_every_question_that_counts_has_one() -> None:
    assert judged("a", "", "c").evidence["answer"] == "a | c"
    assert judged("a", "b", "").evidence["answer"] is None
    assert judged("a").evidence["answers"] == ["a", None]


def test_a_scorer_that_fails_gives_no_reward() -> None:
    verdict = judged("a", "b", "broken")
    assert verdict.status is VerdictStatus.ERROR and verdict.reward is None
    assert verdict.evaluator == "quiz/1 exact/1" and verdict.error is not None and verdict.error.message == "it broke"
