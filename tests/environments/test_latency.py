"""Waits are log-normal, and the same whenever they are drawn."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from askesis.clock import VirtualClock
from askesis.environments import Done, Turn
from askesis.environments.fakes import make_echo_world
from askesis.environments.latency import SlowEnvironment, with_latency
from askesis.gateway import Session
from askesis.trace import Budgets, Message


def session(name: str, clock: VirtualClock) -> Session:
    return Session(
        id=name,
        task=make_echo_world().tasks.task("train", 0),
        group_id="g",
        member_index=0,
        seed=0,
        policy_version=0,
        budgets=Budgets(),
        clock=clock,
    )


def slow(**settings: float) -> SlowEnvironment:
    environment = with_latency(make_echo_world(), **settings).environment  # type: ignore[arg-type]
    assert isinstance(environment, SlowEnvironment)
    return environment


def test_waits_are_log_normal_with_the_mean_that_was_asked_for() -> None:
    clock = VirtualClock()
    waits = np.array([slow(mean_s=2.0).wait_s(session(str(i), clock), 0) for i in range(4000)])
    assert waits.mean() == pytest.approx(2.0, rel=0.1)
    assert np.log(waits).std() == pytest.approx(1.0, rel=0.05)
    assert np.median(waits) == pytest.approx(2.0 * math.exp(-0.5), rel=0.08)


def test_a_session_waits_before_each_step_and_always_as_long() -> None:
    def play() -> list[float]:
        clock = VirtualClock()
        environment = slow(mean_s=3.0, seed=4)
        one = session("a", clock)
        times: list[float] = []

        async def main() -> None:
            turn: Turn | Done = await environment.reset(one)
            assert clock.now() == 0.0
            while isinstance(turn, Turn):
                turn = await environment.step(one, {"policy": Message(role="assistant", content="x")})
                times.append(clock.now())
            await environment.close(one)

        clock.run(main())
        return times

    first = play()
    clock = VirtualClock()
    waits = [slow(mean_s=3.0, seed=4).wait_s(session("a", clock), i) for i in range(2)]
    assert first == play() == pytest.approx(list(np.cumsum(waits)))
    assert slow(mean_s=3.0, seed=5).wait_s(session("a", clock), 0) != waits[0]
    assert waits[0] != waits[1]


def test_the_rest_is_the_world_inside() -> None:
    world = make_echo_world()
    late = with_latency(world, mean_s=1.0)
    assert replace(late, environment=world.environment) == world
    assert late.environment.tools() == world.environment.tools()
    assert late.environment.capabilities == world.environment.capabilities
    assert asyncio.run(late.environment.close(session("a", VirtualClock()))) is None  # type: ignore[func-returns-value]
