"""Synchronous code that holds the loop is interrupted; its session fails, the others do not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping

import pytest

from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import Done, Turn, World
from askesis.environments.fakes import EchoEnvironment, make_echo_world
from askesis.gateway import Gateway, Session
from askesis.policy.loading import Policy
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.rollout.watchdog import Watchdog
from askesis.trace import FailureOrigin, Message


def sleeps() -> None:
    time.sleep(3600)


def spins() -> None:
    while True:
        pass


def swallows() -> None:
    for _ in range(3):
        try:
            time.sleep(3600)
        except TimeoutError:
            continue


class Blocking(EchoEnvironment):
    def __init__(self, block: Callable[[], None]) -> None:
        super().__init__()
        self._block = block

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        if session.member_index == 1:
            self._block()
        return await super().step(session, acts)


@pytest.mark.parametrize("block", [sleeps, spins, swallows])
def test_only_the_session_that_blocks_fails(tiny: Policy, block: Callable[[], None]) -> None:
    echo = make_echo_world()
    world = World(name="blocking", environment=Blocking(block), evaluator=echo.evaluator, tasks=echo.tasks)
    gateway = Gateway(
        ScriptedEngine(tiny.template, lambda text, seed: "x"), tiny.template, sampling=Sampling(), context_length=256
    )
    runner = RolloutRunner(world, gateway, RolloutSettings(call_timeout_s=0.2))
    spec = GroupSpec(
        group_id="g", run_id="r", purpose="train", step=0, task=world.tasks.task("train", 0), size=4, seed=0
    )
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    (group,) = asyncio.run(runner.run([spec], policy_version=0))
    assert time.monotonic() - began < 20
    failed = [m.member_index for m in group.members if m.verdict.reward is None]
    if block is swallows:
        assert failed == []  # it went on after each interruption, and came back in the end
    else:
        assert failed == [1]
        culprit = group.members[1].verdict.error
        assert culprit is not None and culprit.origin is FailureOrigin.ENVIRONMENT
        assert culprit.kind == "LoopBlocked" and "held the event loop" in culprit.message
    assert signal.getsignal(signal.SIGALRM) is before


def test_our_own_code_is_never_interrupted() -> None:
    async def main() -> float:
        began = time.monotonic()
        async with Watchdog(0.1, frozenset()):
            time.sleep(0.5)
        return time.monotonic() - began

    assert asyncio.run(main()) >= 0.5


def test_somebody_elses_alarm_goes_on() -> None:
    rang: list[int] = []

    async def main() -> None:
        async with Watchdog(5.0, frozenset()):
            await asyncio.sleep(0.05)

    old = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    left = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        asyncio.run(main())
        deadline = time.monotonic() + 5
        while not rang and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, old)
    assert rang == [signal.SIGALRM]


def test_several_may_guard_at_once_and_end_in_any_order() -> None:
    before, (left_s, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)

    async def main() -> None:
        first, second = Watchdog(5.0, frozenset()), Watchdog(7.0, frozenset())
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        assert signal.getsignal(signal.SIGALRM) is not before
        await asyncio.sleep(0.01)
        await second.__aexit__(None, None, None)

    asyncio.run(main())
    assert signal.getsignal(signal.SIGALRM) is before
    after_s, _ = signal.getitimer(signal.ITIMER_REAL)
    assert after_s == 0.0 == left_s or 0 < after_s <= left_s
