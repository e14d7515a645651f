"""The conformance kit passes good worlds and finds each planted fault."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from askesis.environments import (
    SEAT,
    Capabilities,
    CheckReport,
    Done,
    ToolResult,
    Turn,
    World,
    check_environment,
    make_world,
)
from askesis.environments.fakes import EchoEnvironment, EchoEvaluator, EchoTasks, make_echo_world
from askesis.gateway.session import Session
from askesis.trace import Message, Task, ToolCall, Trace, Verdict, VerdictStatus

WORLD = make_echo_world(turns=2)


class Shared(EchoEnvironment):
    """Keeps its state for all sessions together."""

    async def reset(self, session: Session) -> Turn:
        turn = await super().reset(session)
        self._count = 0
        return turn

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        self._count += 1
        outcome = await super().step(session, acts)
        return Done.truncated("limit") if self._count > 2 else outcome


class Moody(EchoEnvironment):
    async def reset(self, session: Session) -> Turn:
        await super().reset(session)
        return Turn(seats={SEAT: (Message(role="user", content=session.id),)})


class Restless(EchoEnvironment):
    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        np.random.rand()
        return await super().step(session, acts)


class RestlessToo(EchoEnvironment):
    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        random.random()
        return await super().step(session, acts)


class Endless(EchoEnvironment):
    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        return await super().step(session, acts) if session.id in self._said else Done.terminated()


class Chatty(EchoEnvironment):
    """Sends the whole history again and again."""

    async def reset(self, session: Session) -> Turn:
        self._history = (await super().reset(session)).seats[SEAT]
        return Turn(seats={SEAT: self._history})

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        outcome = await super().step(session, acts)
        if isinstance(outcome, Done):
            return outcome
        return Turn(seats={SEAT: (*self._history, *outcome.seats[SEAT])})


class Parrot(EchoEnvironment):
    """Sends the policy's own words back as the assistant's."""

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        outcome = await super().step(session, acts)
        return outcome if isinstance(outcome, Done) else Turn(seats={SEAT: (acts[SEAT], *outcome.seats[SEAT])})


class Fragile(EchoEnvironment):
    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        acts[SEAT].content.encode()
        return await super().step(session, acts)


class Bytes(EchoEnvironment):
    async def reset(self, session: Session) -> Turn:
        await super().reset(session)
        return Turn(seats={SEAT: (Message(role="user", content=b"x"),)})  # type: ignore[arg-type]


class Stubborn(EchoEnvironment):
    """Does not let itself be cancelled."""

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
        return await super().step(session, acts)


class LeavesBadly(EchoEnvironment):
    async def close(self, session: Session) -> None:
        if session.id in self._said:
            raise OSError("still busy")


class BadTools(EchoEnvironment):
    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        return ToolResult(content="fine")


class CrashingTools(EchoEnvironment):
    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        raise ValueError(call.arguments)


@pytest.mark.parametrize(
    ("environment", "failed"),
    [
        (Shared(), "sessions_do_not_mix"),
        (Moody(), "same_seed_same_transcript"),
        (Restless(), "global_generators_are_left_alone"),
        (RestlessToo(), "global_generators_are_left_alone"),
        (Endless(), "step_after_the_end_is_an_error"),
        (Chatty(), "only_new_messages"),
        (Parrot(), "only_new_messages"),
        (Fragile(), "garbage_from_the_policy"),
        (Bytes(), "turns_are_well_formed"),
        (Stubborn(), "close_after_cancel"),
        (LeavesBadly(), "close_after_cancel"),
        (BadTools(), "bad_tool_calls"),
        (CrashingTools(), "bad_tool_calls"),
    ],
)
def test_a_planted_fault_of_an_environment_is_found(environment: EchoEnvironment, failed: str) -> None:
    timeout = 0.2 if isinstance(environment, Stubborn) else 5.0
    report = check_environment(replace(WORLD, environment=environment), num_tasks=2, call_timeout_s=timeout)
    assert failed in report.failed


class Fickle(EchoTasks):
    def task(self, split: str, index: int) -> Task:
        return replace(super().task(split, index), seed=time.monotonic_ns())


class Leaking(EchoTasks):
    def task(self, split: str, index: int) -> Task:
        return replace(super().task("train", index), split=split)


class Tupled(EchoTasks):
    def task(self, split: str, index: int) -> Task:
        return replace(super().task(split, index), payload={"words": ("a", "b", str(index), split)})


@pytest.mark.parametrize(
    ("tasks", "failed"),
    [
        (Fickle(), "tasks_are_repeatable"),
        (Leaking(), "splits_are_disjoint"),
        (Tupled(), "tasks_survive_json"),
    ],
)
def test_a_planted_fault_of_a_task_source_is_found(tasks: EchoTasks, failed: str) -> None:
    assert check_environment(replace(WORLD, tasks=tasks)).failed == (failed,)


class Generous(EchoEvaluator):
    async def score(self, trace: Trace, task: Task) -> Verdict:
        return Verdict(status=VerdictStatus.OK, evaluator=self.version, rewards={"x": (7.0, 1.0)})


class Anonymous(EchoEvaluator):
    async def score(self, trace: Trace, task: Task) -> Verdict:
        return replace(await super().score(trace, task), evaluator="somebody")


class Silent(EchoEvaluator):
    async def score(self, trace: Trace, task: Task) -> Verdict:
        return None  # type: ignore[return-value]


class NotANumber(EchoEvaluator):
    async def score(self, trace: Trace, task: Task) -> Verdict:
        return Verdict(status=VerdictStatus.OK, evaluator=self.version, rewards={"x": (math.nan, 1.0)})


@pytest.mark.parametrize(
    ("evaluator", "words"),
    [
        (Generous(), "out of range"),
        (Anonymous(), "another evaluator"),
        (Silent(), "no verdict"),
        (NotANumber(), "not a finite number"),
    ],
)
def test_a_planted_fault_of_an_evaluator_is_found(evaluator: EchoEvaluator, words: str) -> None:
    report = check_environment(replace(WORLD, evaluator=evaluator))
    assert "verdicts_are_sound" in report.failed
    assert words in str(report)


def outcomes(report: CheckReport) -> dict[str, str]:
    return {result.name: result.outcome.value for result in report.results}


def test_a_sound_world_passes_everything() -> None:
    report = check_environment(WORLD)
    assert report.ok and set(outcomes(report).values()) == {"passed"}
    assert str(report).splitlines()[0] == "echo: ok"


def test_what_is_not_promised_is_skipped() -> None:
    class Wild(Moody):
        capabilities = Capabilities(deterministic=False)

    report = check_environment(replace(WORLD, environment=Wild()))
    assert report.ok
    assert outcomes(report)["same_seed_same_transcript"] == outcomes(report)["sessions_do_not_mix"] == "skipped"


def test_a_failure_says_what_where_got_expected_and_what_to_do() -> None:
    report = check_environment(replace(WORLD, environment=Endless()))
    text = next(r.message for r in report.results if r.name == "step_after_the_end_is_an_error")
    assert [line.split(":")[0].strip() for line in text.splitlines()] == [
        "a step after the end was accepted",
        "where",
        "got",
        "expected",
        "next",
    ]
    assert not report.ok and "1 checks failed" in str(report)


def test_a_hanging_environment_ends_the_check() -> None:
    class Hanging(EchoEnvironment):
        async def reset(self, session: Session) -> Turn:
            await asyncio.sleep(3600)
            raise AssertionError

    report = check_environment(replace(WORLD, environment=Hanging()), num_tasks=1, call_timeout_s=0.05)
    assert "turns_are_well_formed" in report.failed


def test_the_reasoning_world_conforms() -> None:
    world: World = make_world("reasoning", family="chain_sum", level="nano")
    report = check_environment(world)
    assert report.ok, str(report)
