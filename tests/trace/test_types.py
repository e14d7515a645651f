"""The shared nouns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.errors import TraceError
from askesis.trace import (
    Budgets,
    Failure,
    FailureOrigin,
    Message,
    StopReason,
    Task,
    ToolCall,
    Verdict,
    VerdictStatus,
    canonical_json,
)


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'.encode()
    for bad in (math.nan, math.inf, {1, 2}, b"x"):
        with pytest.raises(TraceError, match="JSON"):
            canonical_json({"x": bad})


@given(st.text(), st.text(), st.none() | st.text())
def test_messages_round_trip(content: str, arguments: str, name: str | None) -> None:
    call = ToolCall(id="1", name="f", arguments=arguments)
    message = Message(role="assistant", content=content, tool_calls=(call,), name=name)
    assert Message.from_dict(message.to_dict()) == message
    assert Message(role="user", content=content).to_dict() == {"role": "user", "content": content}


def test_a_tasks_hash_is_its_content() -> None:
    task = Task(key="k", environment="e", payload={"q": 1}, budgets=Budgets(turns=3))
    assert task.content_hash == Task(key="k", environment="e", payload={"q": 1}, budgets=Budgets(turns=3)).content_hash
    assert task.content_hash != Task(key="k", environment="e", payload={"q": 2}, budgets=Budgets(turns=3)).content_hash


def test_every_stop_reason_is_exactly_one_kind() -> None:
    for reason in StopReason:
        assert [reason.is_terminated, reason.is_truncated, reason.is_error].count(True) == 1
    assert StopReason.MAX_TOKENS.is_truncated and StopReason.FAILED.is_error


def verdict(status: VerdictStatus = VerdictStatus.OK, **rewards: tuple[float, float]) -> Verdict:
    return Verdict(status=status, evaluator="e/1", rewards=rewards)


def test_a_reward_is_a_weighted_sum_and_only_of_good_verdicts() -> None:
    assert verdict(a=(1.0, 0.5), b=(2.0, 0.25)).reward == 1.0
    failure = Failure(origin=FailureOrigin.EVALUATOR, kind="timeout", message="late")
    assert Verdict(status=VerdictStatus.ERROR, evaluator="e/1", error=failure).reward is None
    with pytest.raises(TraceError, match="exactly when"):
        verdict(VerdictStatus.ERROR, a=(0.0, 1.0))
    with pytest.raises(TraceError, match="exactly when"):
        verdict()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, True, "1", None, 1j])
def test_what_is_not_a_finite_number_is_no_reward(bad: object) -> None:
    with pytest.raises(TraceError, match="finite"):
        verdict(a=(bad, 1.0))  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="finite"):
        verdict(a=(1.0, bad))  # type: ignore[arg-type]


def test_rewards_that_overflow_are_refused() -> None:
    with pytest.raises(TraceError, match="add up"):
        verdict(a=(1e308, 1.0), b=(1e308, 1.0))
