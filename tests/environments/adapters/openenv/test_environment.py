"""A server as an environment: what it pays, how it ends, what its tools say. The server here answers from a script."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from askesis.clock import SystemClock
from askesis.environments.adapters.openenv.environment import OpenEnvEnvironment
from askesis.environments.adapters.openenv.wire import Observation, WireError
from askesis.environments.protocol import SEAT, Done, ToolResult, Turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Budgets, Message, StopReason, Task, ToolCall, ToolSpec

SAY = {"properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING: dict[str, Any] = {"properties": {}, "required": []}
TOOL = ToolSpec(name="add", description="", parameters={"type": "object"})
SESSION = Session(
    id="s",
    task=Task(key="t", environment="openenv", payload={"seed": 7}),
    group_id="g",
    member_index=0,
    seed=0,
    policy_version=0,
    budgets=Budgets(),
    clock=SystemClock(),
)


def seen(text: str = "x", reward: float | None = None, done: bool = False, **metadata: object) -> Observation:
    return Observation(observation={"text": text}, reward=reward, done=done, metadata=metadata)


class Scripted:
    """Takes the place of a connection."""

    def __init__(self, *answers: Observation | Exception) -> None:
        self.answers = list(answers)
        self.sent: list[Any] = []
        self.closed = 0

    async def open(self) -> None:
        pass

    async def reset(self, seed: int) -> Observation:
        return self._next(seed)

    async def step(self, action: Mapping[str, Any]) -> Observation:
        return self._next(dict(action))

    async def close(self) -> None:
        self.closed += 1

    def _next(self, sent: object) -> Observation:
        self.sent.append(sent)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def play(
    monkeypatch: pytest.MonkeyPatch,
    script: Scripted,
    *acts: str | ToolCall,
    schema: Mapping[str, Any] = SAY,
    tools: tuple[ToolSpec, ...] = (),
) -> list[Turn | Done | ToolResult]:
    monkeypatch.setattr("askesis.environments.adapters.openenv.environment.Connection", lambda url: script)
    environment = OpenEnvEnvironment("http://h", schema, tools=tools, instruction="Act.", retries=1)

    async def run() -> list[Turn | Done | ToolResult]:
        try:
            outcomes: list[Turn | Done | ToolResult] = [await environment.reset(SESSION)]
            for act in acts:
                if isinstance(act, ToolCall):
                    outcomes.append(await environment.call_tool(SESSION, SEAT, act))
                else:
                    outcomes.append(await environment.step(SESSION, {SEAT: Message(role="assistant", content=act)}))
            return outcomes
        finally:
            await environment.close(SESSION)

    return asyncio.run(run())


def add(arguments: str = '{"a": 1}') -> ToolCall:
    return ToolCall(id="1", name="add", arguments=arguments)


def test_rewards_are_paid_and_silence_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(seen("begin"), seen("go on", 0.25), seen("on"), seen("end", 1.0, True))
    outcomes = play(monkeypatch, script, "a", "<answer>b</answer>", "c")
    assert script.sent == [7, {"text": "a"}, {"text": "b"}, {"text": "c"}] and script.closed == 1
    assert [m.content for m in outcomes[0].seats[SEAT]] == ["Act.", "begin"]
    assert [outcome.info for outcome in outcomes] == [{}, {"paid": {SEAT: 0.25}}, {}, {"paid": {SEAT: 1.0}}]
    assert outcomes[3].stop is StopReason.TERMINATED


def test_truncated_is_told_from_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = play(monkeypatch, Scripted(seen(), seen(reward=0.0, done=True, truncated=True, reason="late")), "a")[1]
    assert (cut.stop, cut.reason) == (StopReason.ENVIRONMENT_LIMIT, "late")
    both = play(monkeypatch, Scripted(seen(), seen(done=True, truncated=True, terminated=True)), "a")[1]
    assert both.stop is StopReason.TERMINATED


def test_an_action_that_the_server_refuses_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = WireError("VALIDATION_ERROR", "no")
    outcomes = play(monkeypatch, Scripted(seen(), refused, seen("fine"), refused, refused), "a", "b", "c", "d")
    assert outcomes[1].seats[SEAT][0].content == "This is no legal action: VALIDATION_ERROR: no"
    assert outcomes[2].seats[SEAT][0].content == "fine"
    assert outcomes[4].stop is StopReason.TERMINATED and outcomes[4].reason == "no legal action in 2 tries"


def test_any_other_refusal_fails_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="the OpenEnv server refuses"):
        play(monkeypatch, Scripted(seen(), WireError("EXECUTION_ERROR", "boom")), "a")
    with pytest.raises(EnvironmentFault) as caught:
        play(monkeypatch, Scripted(WireError("CAPACITY_REACHED", "full")))
    assert caught.value.next_step == "lower rollout.max_concurrent, or let the server take more sessions"
    with pytest.raises(EnvironmentFault, match="not a finite number"):
        play(monkeypatch, Scripted(seen(), seen(reward=float("nan"))), "a")


def test_what_tools_pay_is_paid_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    result = Observation(
        observation={"result": {"content": [{"type": "text", "text": "3"}]}, "error": None},
        reward=0.5,
        done=False,
        metadata={},
    )
    script = Scripted(seen(), result, result)
    outcomes = play(monkeypatch, script, add(), add(), "the answer is 3", schema=NOTHING, tools=(TOOL,))
    assert outcomes[1] == ToolResult(content="3")
    assert script.sent[1] == {"type": "call_tool", "tool_name": "add", "arguments": {"a": 1}}
    assert (outcomes[3].stop, outcomes[3].info) == (StopReason.TERMINATED, {"paid": {SEAT: 1.0}})


def test_a_tool_that_ends_the_episode_ends_it_at_the_next_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(seen(), Observation(observation={"result": "done"}, reward=1.0, done=True, metadata={}))
    outcomes = play(monkeypatch, script, add(), add(), "bye", schema=NOTHING, tools=(TOOL,))
    assert outcomes[2] == ToolResult(content="error: the episode is over", is_error=True)
    assert outcomes[3].info == {"paid": {SEAT: 1.0}}


@pytest.mark.parametrize("arguments", ["{]", "[1]", "[" * 100_000])
def test_bad_arguments_are_the_policys(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    outcomes = play(monkeypatch, Scripted(seen()), add(arguments), schema=NOTHING, tools=(TOOL,))
    assert outcomes[1] == ToolResult(content="error: the arguments are no JSON object", is_error=True)


def test_a_tools_error_is_shown_and_a_huge_result_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Observation(observation={"error": {"message": "no such file"}}, reward=None, done=False, metadata={})
    huge = Observation(observation={"result": "x" * 10**6}, reward=None, done=False, metadata={})
    outcomes = play(monkeypatch, Scripted(seen(), failed, huge), add(), add(), schema=NOTHING, tools=(TOOL,))
    assert outcomes[1] == ToolResult(content="no such file", is_error=True)
    assert len(outcomes[2].content) < 21_000


def test_a_step_after_the_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="not open"):
        play(monkeypatch, Scripted(seen(), seen(done=True)), "a", "b")
