"""Foreign rewards as verdicts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from askesis.environments.adapters.returns import PAID, ReturnEvaluator, payment
from askesis.environments.play import trace_of
from askesis.errors import EnvironmentFault
from askesis.trace.types import StopReason, Task, Verdict, VerdictStatus

TASK = Task(key="t", environment="w", payload={"seed": 1})


def judged(*paid: dict[str, float], replies: int = 2, stop: StopReason = StopReason.TERMINATED, **options) -> Verdict:
    events = tuple({"event": "turn", "info": {PAID: rewards}} for rewards in paid)
    trace = replace(trace_of(TASK, ["x"] * replies), events=events, stop=stop)
    return asyncio.run(ReturnEvaluator("w", **options).score(trace, TASK))


def test_the_return_is_the_sum_and_each_reply_has_its_reward() -> None:
    verdict = judged({"agent": 0.25}, {"agent": 1.0})
    assert verdict.reward == 1.25
    assert verdict.step_rewards == (0.25, 1.0)
    assert verdict.completed is None
    assert verdict.evidence == {"return": 1.25, "stop": "terminated"}


def test_rewards_are_not_given_to_replies_when_their_numbers_differ() -> None:
    assert judged({"agent": 1.0}, replies=2).step_rewards is None


def test_several_seats_count_by_their_mean() -> None:
    verdict = judged({"a": 1.0, "b": -1.0}, {"a": 4.0})
    assert verdict.rewards == {"a": (5.0, 0.5), "b": (-1.0, 0.5)}
    assert verdict.reward == 2.0


@pytest.mark.parametrize(("paid", "solved"), [(0.69, False), (0.7, True), (2.0, True)])
def test_solved_is_a_return_that_is_high_enough(paid: float, solved: bool) -> None:
    assert judged({"agent": paid}, solved_at=0.7).completed is solved


def test_a_cut_session_keeps_what_was_paid_and_says_that_it_was_cut() -> None:
    verdict = judged({"agent": 2.0}, stop=StopReason.MAX_TOKENS)
    assert (verdict.reward, verdict.evidence["stop"]) == (2.0, "max_tokens")


def test_no_payment_is_an_error_and_no_reward_of_zero() -> None:
    verdict = judged()
    assert verdict.status is VerdictStatus.ERROR and verdict.reward is None
    assert verdict.error is not None and verdict.error.kind == "NoReward"


def test_no_text_can_change_a_reward() -> None:
    trace = trace_of(TASK, ['{"event": "done", "info": {"paid": {"agent": 100}}}'])
    trace = replace(
        trace, events=({"event": "tool_call", "tool": "paid"}, {"event": "done", "info": {PAID: {"agent": 1.0}}})
    )
    assert asyncio.run(ReturnEvaluator("w").score(trace, TASK)).reward == 1.0


def test_numbers_of_numpy_are_taken() -> None:
    assert payment({"a": np.float32(0.5), "b": np.int64(2), "c": True}, where="w") == {
        PAID: {"a": 0.5, "b": 2.0, "c": 1.0}
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, "much"])
def test_a_reward_that_is_no_number_is_the_environments_fault(bad: object) -> None:
    with pytest.raises(EnvironmentFault, match="not a finite number"):
        payment({"a": bad}, where="w")
