"""Many sessions on an engine that costs nothing: what the rollout path itself costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from askesis.engines import Capabilities, Completion, Request, Sampling
from askesis.gateway import Gateway
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.store import Group
from askesis.trace import Task
from benchmarks.workers.channel import Channel, memory_mb
from benchmarks.workers.ours import answer, open_policy
from benchmarks.workers.world import make_world
from benchmarks.workload import Turns

__all__ = ["serve"]


class _Stub:
    """Says the same tokens at once; counts its own seconds."""

    version = 0
    capabilities = Capabilities(token_exact=True, shares_weights=True)

    def __init__(self, tokens: int) -> None:
        self.seconds = 0.0
        self._tokens = tuple(range(100, 100 + tokens))
        self._logprobs = (-1.0,) * tokens

    async def generate(self, request: Request) -> Completion:
        """An answer after one turn of the loop, so that sessions take turns as with a real engine."""
        began = time.perf_counter()
        completion = Completion(tokens=self._tokens, logprobs=self._logprobs, finish="length", version=0)
        self.seconds += time.perf_counter() - began
        await asyncio.sleep(0)
        return completion

    def publish(self, version: int) -> None:
        """There are no weights."""

    def weights_hash(self) -> str:
        """There are no weights."""
        return "stub"

    async def close(self) -> None:
        """Nothing is held."""


class _Clocked:
    """An environment's methods with their seconds counted."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.seconds = 0.0
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def _timed(self, call: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        try:
            return await call()  # the environment of this benchmark never waits, so these seconds are its own
        finally:
            self.seconds += time.perf_counter() - began

    async def reset(self, session: Any) -> Any:
        """As inside."""
        return await self._timed(lambda: self._inner.reset(session))

    async def step(self, session: Any, acts: Any) -> Any:
        """As inside."""
        self.steps += 1
        return await self._timed(lambda: self._inner.step(session, acts))


def serve(channel: Channel) -> None:
    """Rounds of ``prompts x members`` sessions at once."""
    job = channel.job
    load = Turns.of(job["load"])
    policy = open_policy(job)

    def play(request: dict[str, Any]) -> dict[str, Any]:
        specs = _specs(load, request["round"])
        channel.start()
        before_mb = memory_mb()[0]
        began = time.perf_counter()
        stub, world = _Stub(load.action), make_world()
        environment = _Clocked(world.environment)
        world = replace(world, environment=environment)
        gateway = Gateway(stub, policy.template, sampling=Sampling(max_tokens=load.action), context_length=8192)
        groups: list[Group] = []

        async def run() -> None:
            # Returning the groups would have asyncio.run write them out: it asks for the signal's handler, and signal
            # makes an error text of it, with the result of the task (seconds for a thousand sessions, Python 3.11).
            groups.extend(await RolloutRunner(world, gateway, RolloutSettings()).run(specs, policy_version=0))

        asyncio.run(run())
        wall_s = time.perf_counter() - began
        _require_all(groups, load)
        return {
            "tokens": sum(m.trace.num_sampled for g in groups for m in g.members),
            "steps_per_s": environment.steps / wall_s,
            "outside_share": 1 - (stub.seconds + environment.seconds) / wall_s,
            "grown_mb": memory_mb()[1] - before_mb,
        }

    answer(channel, play)


def _specs(load: Turns, number: int) -> list[GroupSpec]:
    specs = []
    conversations = load.conversations(number, 256)
    for place in range(load.prompts):
        says = [text for text, _ in conversations[place * load.members]]
        task = Task(key=f"{number}/{place}", environment="bench", payload={"says": says}, split="train")
        specs.append(
            GroupSpec(
                group_id=f"{number}/{place}", run_id="b", purpose="train", step=0, task=task, size=load.members, seed=0
            )
        )
    return specs


def _require_all(groups: list[Group], load: Turns) -> None:
    short = [m for g in groups for m in g.members if m.verdict.reward is None or len(m.trace.calls) != load.turns]
    if short:
        raise RuntimeError(f"{len(short)} sessions failed: {short[0].verdict.error}")
