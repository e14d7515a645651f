"""The shipped stand-ins do what they say."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from askesis.clock import VirtualClock
from askesis.environments import SEAT, Done, Turn, validate_turn
from askesis.environments.fakes import (
    EchoEnvironment,
    Fault,
    FlakyEnvironment,
    FlakyEvaluator,
    ScriptedPolicy,
    make_echo_world,
)
from askesis.environments.play import trace_of
from askesis.errors import EnvironmentFault, RecipeError, TraceError
from askesis.gateway.session import Session
from askesis.trace import Budgets, Message, Task, ToolCall

WORLD = make_echo_world(turns=2)
TASK = WORLD.tasks.task("train", 0)
ACT = {SEAT: Message(role="assistant", content="x")}


def session(number: int = 0, task: Task = TASK) -> Session:
    return Session(
        id=f"s{number}",
        task=task,
        group_id="g",
        member_index=number,
        seed=number,
        policy_version=0,
        budgets=Budgets(),
        clock=VirtualClock(),
    )


def test_a_scripted_policy_speaks_its_script_and_repeats_the_last_line() -> None:
    policy = ScriptedPolicy(["one", "two"])
    said = Message(role="assistant", content="…")
    asked = Message(role="user", content="?")

    async def replies() -> list[str]:
        return [await policy([asked, *[said] * n]) for n in range(4)]

    assert asyncio.run(replies()) == ["one", "two", "two", "two"]
    assert asyncio.run(ScriptedPolicy(lambda messages: messages[-1].content.upper())([asked, said])) == "…"


def test_the_echo_world_plays_and_scores() -> None:
    first, second = TASK.payload["words"]
    assert first.startswith("t") and WORLD.tasks.task("held_out", 0).payload["words"][0].startswith("h")

    async def main() -> None:
        environment, one = EchoEnvironment(), session()
        opening = await environment.reset(one)
        assert [m.content for m in opening.seats[SEAT]] == ["Repeat each word.", first]
        turn = await environment.step(one, ACT)
        assert isinstance(turn, Turn) and [m.content for m in turn.seats[SEAT]] == [second]
        assert await environment.step(one, ACT) == Done.terminated({"turns": 2})
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(one, ACT)
        call = ToolCall(id="1", name="reverse", arguments="abc")
        assert (await environment.call_tool(one, SEAT, call)).content == "cba"
        assert (await environment.call_tool(one, SEAT, replace(call, name="x"))).is_error
        await environment.close(one)
        for replies, reward, completed in (
            ((first, second), 1.0, True),
            ((first, "no"), 0.5, False),
            ((second, first), 0.0, False),
            ((), 0.0, False),
        ):
            verdict = await WORLD.evaluator.score(trace_of(TASK, replies), TASK)
            assert (verdict.reward, verdict.completed) == (reward, completed)

    asyncio.run(main())


def test_echo_tasks_are_endless_distinct_and_repeatable() -> None:
    tasks = WORLD.tasks.distinct_tasks("train", 50)
    assert len({task.content_hash for task in tasks}) == 50
    assert tasks[7] == make_echo_world(turns=2).tasks.task("train", 7)
    assert WORLD.tasks.num_tasks("train") is None
    with pytest.raises(RecipeError, match="unknown split"):
        WORLD.tasks.task("test", 0)


def test_faults_depend_on_the_session_alone_and_come_at_their_rate() -> None:
    flaky = FlakyEnvironment(EchoEnvironment(), {Fault.RAISE: 0.1, Fault.HANG: 0.02}, seed=1)
    faults = [flaky.faults(session(n)) for n in range(2000)]
    assert faults == [flaky.faults(session(n)) for n in range(2000)]
    assert 150 < sum(Fault.RAISE in f for f in faults) < 250
    assert 20 < sum(Fault.HANG in f for f in faults) < 65
    assert faults != [replace(flaky, seed=2).faults(session(n)) for n in range(2000)]


def test_each_fault_of_an_environment() -> None:
    def flaky(fault: Fault) -> FlakyEnvironment:
        return FlakyEnvironment(EchoEnvironment(), {fault: 1.0})

    async def main() -> None:
        one = session()
        with pytest.raises(RuntimeError, match="in reset"):
            await flaky(Fault.CRASH_RESET).reset(one)
        with pytest.raises(RuntimeError, match="in step"):
            await flaky(Fault.RAISE).step(one, ACT)
        with pytest.raises(RuntimeError, match="in close"):
            await flaky(Fault.CRASH_CLOSE).close(one)
        with pytest.raises(EnvironmentFault, match="wrong type"):
            validate_turn(await flaky(Fault.GARBAGE).step(one, ACT))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await flaky(Fault.HANG).step(one, ACT)
        healthy = FlakyEnvironment(EchoEnvironment(), {Fault.RAISE: 0.0})
        await healthy.reset(one)
        assert isinstance(await healthy.step(one, ACT), Turn)
        assert healthy.tools()[0].name == "reverse" and healthy.capabilities.deterministic
        call = ToolCall(id="1", name="reverse", arguments="ab")
        assert (await healthy.call_tool(one, SEAT, call)).content == "ba"

    VirtualClock().run(main())


def test_each_fault_of_an_evaluator() -> None:
    trace = trace_of(TASK, ["x"])

    def flaky(fault: Fault, rate: float = 1.0) -> FlakyEvaluator:
        return FlakyEvaluator(WORLD.evaluator, {fault: rate})

    async def main() -> None:
        with pytest.raises(RuntimeError, match="evaluator raised"):
            await flaky(Fault.RAISE).score(trace, TASK)
        with pytest.raises(TraceError, match="not a finite number"):
            await flaky(Fault.NAN).score(trace, TASK)
        assert await flaky(Fault.GARBAGE).score(trace, TASK) == {"reward": 1.0}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await flaky(Fault.HANG).score(trace, TASK)
        assert (await flaky(Fault.RAISE, 0.0).score(trace, TASK)).reward == 0.0

    VirtualClock().run(main())
    half = flaky(Fault.RAISE, 0.5)
    hit = [bool(half.faults(trace_of(TASK, [str(n)]), TASK)) for n in range(200)]
    assert 70 < sum(hit) < 130
