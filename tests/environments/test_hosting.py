"""Environments in other processes: the same world, and a host that is gone costs its own sessions only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from askesis.environments import Done, Turn, World, check_environment
from askesis.environments.fakes import EchoEnvironment, make_echo_world
from askesis.environments.hosting import Crew, HostGone, hosted
from askesis.errors import EnvironmentFault, RecipeError
from askesis.gateway import Session
from askesis.trace import Message, StopReason, ToolCall, TraceBuilder
from environments_near import Near, session

SAY = {"agent": Message(role="assistant", content="one")}


def test_a_hosted_world_keeps_every_promise_of_the_world() -> None:
    crew = Crew(Near(2))
    report = check_environment(hosted(make_echo_world(), crew), num_tasks=2)
    assert report.ok, str(report)


def test_sessions_go_to_the_host_with_the_fewest_and_stay_there() -> None:
    async def main() -> list[tuple[int, str]]:
        near = Near(2)
        crew = Crew(near)
        world = hosted(make_echo_world(), crew)
        sessions = [session(i) for i in range(4)]
        for one in sessions:
            await world.environment.reset(one)
        for one in sessions:
            await world.environment.step(one, SAY)
        result = await world.environment.call_tool(
            sessions[0], "agent", ToolCall(id="c", name="reverse", arguments="ab")
        )
        assert result.content == "ba"
        for one in sessions:
            await world.environment.close(one)
        await world.environment.reset(session(9))
        await crew.close()
        assert near.closed
        return near.calls

    calls = asyncio.run(main())
    assert [place for place, method in calls if method == "reset"] == [0, 1, 0, 1, 0]
    assert [place for place, method in calls if method == "step"] == [0, 1, 0, 1]
    assert [place for place, method in calls if method == "close"] == [0, 1, 0, 1]


def test_a_host_that_dies_costs_its_own_sessions_and_is_replaced() -> None:
    async def main() -> tuple[Any, ...]:
        near = Near(2, lost=frozenset({5}))  # the first step, after four resets
        crew = Crew(near)
        world = hosted(make_echo_world(), crew)
        sessions = [session(i) for i in range(4)]
        for one in sessions:
            await world.environment.reset(one)
        outcomes: list[Any] = []
        for one in sessions:
            try:
                outcomes.append(await world.environment.step(one, SAY))
            except HostGone as error:
                outcomes.append(error)
            await world.environment.close(one)
        await asyncio.sleep(0.01)
        again = await world.environment.reset(session(7))
        place = near.calls[-1][0]
        notes = crew.take_notes()
        await crew.close()
        return outcomes, again, place, notes, crew.lost

    outcomes, again, place, notes, lost = asyncio.run(main())
    assert [type(o).__name__ for o in outcomes] == ["HostGone", "Turn", "HostGone", "Turn"]
    assert outcomes[0].got == outcomes[2].got == "killed by SIGKILL"
    assert isinstance(again, Turn) and place == 0 and lost == 1
    assert notes == ("environment worker 0 was lost with 2 sessions and is replaced: killed by SIGKILL",)


def test_a_host_that_gives_no_sign_of_life_after_a_deadline_is_replaced() -> None:
    async def main() -> tuple[int, int]:
        near = Near(1)
        crew = Crew(near, sign_s=0.05)
        world = hosted(make_echo_world(), crew)
        await world.environment.reset(session(0))
        near.blocked.add(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await world.environment.step(session(0), SAY)
        await asyncio.sleep(0.1)
        with pytest.raises(HostGone):
            await world.environment.step(session(0), SAY)
        await world.environment.reset(session(1))
        await crew.close()
        return near.starts, crew.lost

    assert asyncio.run(main()) == (2, 1)


def test_a_deadline_alone_costs_no_host() -> None:
    class Slow(EchoEnvironment):
        async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
            await asyncio.sleep(10.0)
            return await super().step(session, acts)

    def slow() -> World:
        world = make_echo_world()
        return World(name="echo", environment=Slow(), evaluator=world.evaluator, tasks=world.tasks)

    async def main() -> int:
        crew = Crew(Near(1, world=slow), sign_s=1.0)
        world = hosted(slow(), crew)
        await world.environment.reset(session(0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await world.environment.step(session(0), SAY)
        await asyncio.sleep(0.01)
        await crew.close()
        return crew.lost

    assert asyncio.run(main()) == 0


def test_verdicts_come_from_hosts_and_a_lost_one_is_an_error() -> None:
    trace = TraceBuilder().finish(StopReason.TERMINATED)
    task = session(0).task

    async def main() -> Any:
        near = Near(1, lost=frozenset({2}))
        crew = Crew(near)
        world = hosted(make_echo_world(), crew)
        assert world.evaluator.version == make_echo_world().evaluator.version
        verdict = await world.evaluator.score(trace, task)
        with pytest.raises(HostGone):
            await world.evaluator.score(trace, task)
        again = await world.evaluator.score(trace, task)
        await crew.close()
        return verdict, again

    verdict, again = asyncio.run(main())
    assert verdict == again and verdict.reward == 0.0


def test_hosts_that_never_come_up_are_an_error_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("askesis.environments.hosting._PAUSE_S", 0.0)

    async def main() -> None:
        near = Near(1)
        near.start_losses = 99
        crew = Crew(near)
        try:
            await crew.start()
        finally:
            await crew.close()

    with pytest.raises(EnvironmentFault, match="3 in a row were lost while they started") as caught:
        asyncio.run(main())
    assert "no memory" in str(caught.value)


def test_a_world_that_cannot_be_opened_there_is_an_error_with_the_cause() -> None:
    def broken() -> World:
        raise RecipeError("the package is not installed there")

    async def main() -> None:
        crew = Crew(Near(2, world=broken))
        try:
            await crew.start()
        finally:
            await crew.close()

    with pytest.raises(EnvironmentFault, match="cannot open the world") as caught:
        asyncio.run(main())
    assert "the package is not installed there" in str(caught.value)


def test_a_step_in_a_session_that_is_not_open_is_refused() -> None:
    async def main() -> None:
        crew = Crew(Near(1))
        try:
            await hosted(make_echo_world(), crew).environment.step(session(0), SAY)
        finally:
            await crew.close()

    with pytest.raises(EnvironmentFault, match="not open"):
        asyncio.run(main())
