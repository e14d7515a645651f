"""Deterministic admission through the real gateway and rollout: latencies change when, never what."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.decoder import FusedDecoder
from askesis.engines.embedded import EmbeddedEngine
from askesis.engines.scheduler import Call, Scheduler
from askesis.environments import Done, Turn, World
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.gateway import Gateway, Session
from askesis.policy.loading import Policy
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.streams import generator
from askesis.trace import Budgets, Message, StopReason, Task, encode


@dataclass
class Slow:
    """An environment whose calls take a random time."""

    inner: Any
    seed: int

    @property
    def capabilities(self) -> Any:
        return self.inner.capabilities

    async def _wait(self, session: Session, name: str) -> None:
        await asyncio.sleep(float(generator(self.seed, session.id, name).exponential(2.0)))

    async def reset(self, session: Session) -> Turn:
        await self._wait(session, "reset")
        return await self.inner.reset(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        await self._wait(session, str(self.inner._said.get(session.id) if hasattr(self.inner, "_said") else 0))
        return await self.inner.step(session, acts)

    async def close(self, session: Session) -> None:
        await self.inner.close(session)


def play(
    policy: Policy, latency: int, *, faults: dict[Fault, float] | None = None, max_concurrent: int = 100
) -> list[bytes]:
    inner = make_echo_world(turns=3)
    environment: Any = Slow(inner.environment, latency)
    if faults:
        environment = FlakyEnvironment(environment, faults, seed=4)
    world = World(name="slow", environment=environment, evaluator=inner.evaluator, tasks=inner.tasks)
    clock = VirtualClock()

    async def main() -> list[bytes]:
        engine = EmbeddedEngine(policy, max_batch=5)
        gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=8), context_length=256)
        settings = RolloutSettings(call_timeout_s=40.0, max_concurrent=max_concurrent)
        specs = [
            GroupSpec(
                group_id=f"r/train/0/{i}",
                run_id="r",
                purpose="train",
                step=0,
                task=inner.tasks.task("train", i),
                size=4,
                seed=i,
            )
            for i in range(3)
        ]
        try:
            groups = await RolloutRunner(world, gateway, settings, clock=clock).run(specs, policy_version=0)
        finally:
            await engine.close()
        return [encode(member.trace) for group in groups for member in group.members]

    return clock.run(main())


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    seen: list[list[int]] = []
    submit = Scheduler.submit

    def noting(self: Scheduler, calls: list[Call]) -> None:
        seen.append([call.request.seed for call in calls])
        submit(self, calls)

    monkeypatch.setattr(Scheduler, "submit", noting)
    return seen


@pytest.mark.parametrize(
    ("faults", "max_concurrent"),
    [
        ({Fault.RAISE: 0.3, Fault.CRASH_RESET: 0.2, Fault.HANG: 0.2}, 100),
        ({}, 5),
        pytest.param({}, 100, marks=pytest.mark.opt_in),
        pytest.param({Fault.RAISE: 0.4}, 1, marks=pytest.mark.opt_in),
    ],
)
def test_environments_of_any_speed_give_the_same_bits(
    tiny: Policy, batches: list[list[int]], faults: dict[Fault, float], max_concurrent: int
) -> None:
    runs, rounds = [], []
    for latency in range(3):
        batches.clear()
        runs.append(play(tiny, latency, faults=faults, max_concurrent=max_concurrent))
        rounds.append([list(b) for b in batches])
    assert runs[0] == runs[1] == runs[2]
    assert rounds[0] == rounds[1] == rounds[2] and len(rounds[0]) > 2


def session(name: str, clock: VirtualClock) -> Session:
    return Session(
        id=name,
        task=Task(key="k", environment="e", payload={}),
        group_id="g",
        member_index=0,
        seed=5,
        policy_version=0,
        budgets=Budgets(),
        clock=clock,
    )


@pytest.mark.parametrize("warm", [True, False])
def test_a_rollout_owes_nothing_to_earlier_ones(tiny: Policy, monkeypatch: pytest.MonkeyPatch, warm: bool) -> None:
    """A resumed run does not repeat the evaluation that came before a step: the step must read what it would have."""
    contexts: list[list[int]] = []
    read = FusedDecoder.read

    def noting(self: FusedDecoder, ids: torch.Tensor, context: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        contexts.append(context.tolist())
        return read(self, ids, context, *rest)

    monkeypatch.setattr(FusedDecoder, "read", noting)

    async def main() -> None:
        engine = EmbeddedEngine(tiny)
        for purpose in ["evaluation", "train"] if warm else ["train"]:
            gateway = Gateway(engine, tiny.template, sampling=Sampling(max_tokens=8), context_length=256)
            endpoint = gateway.open(session(purpose, VirtualClock()))
            contexts.clear()
            history = [Message(role="user", content="abc")]
            history.append((await endpoint.chat(history)).message)
            await endpoint.chat([*history, Message(role="user", content="d")])
            endpoint.close(StopReason.TERMINATED)
        await engine.close()

    asyncio.run(main())
    assert contexts[0] == [0] and contexts[1][0] > 5


def test_a_session_that_is_dropped_without_closing_holds_nobody_up(tiny: Policy) -> None:
    async def main() -> None:
        engine = EmbeddedEngine(tiny)
        gateway = Gateway(engine, tiny.template, sampling=Sampling(max_tokens=3), context_length=256)
        stays, goes = (gateway.open(session(name, VirtualClock())) for name in ("a", "b"))
        call = asyncio.create_task(stays.chat([Message(role="user", content="abc")]))
        await asyncio.sleep(0.03)
        assert not call.done()
        del goes
        async with asyncio.timeout(20):
            assert (await call).num_tokens >= 1
        await engine.close()

    asyncio.run(main())
