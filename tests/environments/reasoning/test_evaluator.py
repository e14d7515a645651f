"""Verdicts on answers."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import pytest

from askesis.environments.play import trace_of
from askesis.environments.reasoning.client import shared_worker
from askesis.environments.reasoning.evaluator import ReasoningEvaluator
from askesis.environments.reasoning.scorers import MAX_ANSWER_CHARS
from askesis.trace import FailureOrigin, StopReason, Task, TraceBuilder, Verdict, VerdictStatus, canonical_json

SUM = {"family": "chain_sum", "options": {}, "question": "3 + 4 =", "answer": "7", "metadata": {}}
COUNTDOWN = {"family": "countdown", "options": {}, "dataset_seed": 1, "dataset_index": 0}


def judge(payload: dict[str, Any], *replies: str, **options: Any) -> Verdict:
    task = Task(key="k", environment="reasoning", payload=payload)
    evaluator = ReasoningEvaluator(worker=shared_worker("score"), **options)
    return asyncio.run(evaluator.score(trace_of(task, replies), task))


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        ("<answer>7</answer>", 1.0),
        ("<think>3 and 4</think><answer> +07.0 </answer>", 1.0),
        ("<answer>8</answer>", 0.0),
        ("<answer>it is 7</answer>", 0.0),
        ("<answer></answer>", 0.0),
        ("<answer>" + "9" * 5000 + "</answer>", 0.0),
        ("<answer>\x00\ud800</answer>", 0.0),
    ],
)
def test_a_closed_answer_is_scored(reply: str, reward: float) -> None:
    verdict = judge(SUM, reply)
    assert (verdict.status, verdict.reward, verdict.completed) == (VerdictStatus.OK, reward, reward == 1.0)
    assert verdict.evidence["reason"] == "scored"
    assert verdict.evaluator == f"reasoning-gym/{version('reasoning-gym')}"
    canonical_json(dict(verdict.evidence)).decode()  # can be stored as UTF-8


@pytest.mark.parametrize("reply", ["7", "<answer>7", "", "</answer>7<answer>"])
def test_no_closed_answer_is_a_legitimate_zero(reply: str) -> None:
    verdict = judge(SUM, reply)
    assert (verdict.status, verdict.reward, verdict.completed) == (VerdictStatus.OK, 0.0, False)
    assert verdict.evidence == {"answer": None, "score": 0.0, "reason": "no closed <answer> tag"}


def test_only_the_last_reply_counts() -> None:
    assert judge(SUM, "<answer>8</answer>", "<answer>7</answer>").reward == 1.0
    assert judge(SUM, "<answer>7</answer>", "well").reward == 0.0


def test_partial_credit_is_opt_in() -> None:
    reply = "<answer>it is 7</answer>"
    assert judge(SUM, reply).reward == 0.0
    verdict = judge(SUM, reply, partial_credit=True)
    assert verdict.reward == pytest.approx(1 / 7)
    assert verdict.completed is False
    assert judge(SUM, "<answer>7</answer>", partial_credit=True).reward == 1.0


def test_a_long_answer_is_wrong_unread() -> None:
    verdict = judge(SUM, "<answer>" + "7" * (MAX_ANSWER_CHARS + 1) + "</answer>")
    assert verdict.reward == 0.0 and "longer than" in verdict.evidence["reason"]
    assert len(verdict.evidence["answer"]) == 500


def test_a_trace_without_a_reply_cannot_be_judged() -> None:
    task = Task(key="k", environment="reasoning", payload=SUM)
    trace = TraceBuilder().finish(StopReason.CONTEXT_OVERFLOW)
    verdict = asyncio.run(ReasoningEvaluator(worker=shared_worker("score")).score(trace, task))
    assert verdict.status is VerdictStatus.ERROR and verdict.reward is None
    assert verdict.error is not None and verdict.error.kind == "no_reply"


def test_what_a_scorer_raises_is_an_error_not_a_zero() -> None:
    payload = {**SUM, "family": "fraction_simplification", "metadata": {}}  # its metadata are lost
    broken = judge({**payload, "family": "time_intervals"}, "<answer>7</answer>")
    assert broken.status is VerdictStatus.ERROR and broken.reward is None and broken.completed is None
    assert broken.error is not None
    assert (broken.error.origin, broken.error.kind) == (FailureOrigin.EVALUATOR, "KeyError")


def test_a_score_out_of_range_is_an_error() -> None:
    class Wild:
        def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
            return float(answer)

    task = Task(key="k", environment="reasoning", payload=SUM)
    evaluator = ReasoningEvaluator(worker=shared_worker("score"))
    evaluator._datasets[f"{SUM['family']} {SUM['options']!r}"] = Wild()
    for answer in ("nan", "inf", "1.5", "-0.1"):
        verdict = asyncio.run(evaluator.score(trace_of(task, [f"<answer>{answer}</answer>"]), task))
        assert verdict.error is not None and verdict.error.kind == "bad_score", answer


def test_the_worker_scores_and_survives_a_hanging_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("askesis.environments.reasoning.evaluator.SCORE_SECONDS", 0.5)
    hanging = judge(COUNTDOWN, "<answer>9**9**9**9**9</answer>")
    assert hanging.status is VerdictStatus.ERROR and hanging.reward is None
    assert hanging.error is not None and (hanging.error.kind, hanging.error.origin) == (
        "timeout",
        FailureOrigin.EVALUATOR,
    )
    wrong = judge(COUNTDOWN, "<answer>1 + 1</answer>")
    assert (wrong.status, wrong.reward, wrong.evidence["score"]) == (VerdictStatus.OK, 0.0, 0.05)
    refused = judge(COUNTDOWN, "<answer>__import__('os')</answer>")
    assert refused.reward == 0.0 and "contains" in refused.evidence["reason"]


def test_waiting_for_the_worker_does_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(key="k", environment="reasoning", payload=COUNTDOWN)
    evaluator = ReasoningEvaluator(worker=shared_worker("score"))
    monkeypatch.setattr("askesis.environments.reasoning.evaluator.SCORE_SECONDS", 0.5)

    async def main() -> int:
        scoring = asyncio.ensure_future(evaluator.score(trace_of(task, ["<answer>9**9**9**9**9</answer>"]), task))
        ticks = 0
        while not scoring.done():
            await asyncio.sleep(0.02)
            ticks += 1
        return ticks

    assert asyncio.run(main()) >= 5
