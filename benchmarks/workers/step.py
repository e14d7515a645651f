"""A GRPO step of ours: sample, reward, advantages, update. ``whole`` adds what a run has around it.

Without ``whole``: embedded engine and learner. With it: environment, rollout runner, gateway, store and metrics too.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from askesis.engines import Completion, Request, Sampling
from askesis.engines.embedded import EmbeddedEngine
from askesis.gateway import Gateway
from askesis.learners import GradientLearner, Sample
from askesis.policy.loading import Policy
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.store import RunRecord, Store
from askesis.trace import Call, StopReason, Task, TraceBuilder
from askesis.training.groups import rollout_metrics
from askesis.training.sampler import Sampler
from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, make_learner, open_policy
from benchmarks.workers.world import make_world
from benchmarks.workload import Grpo, even_share

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one step each."""
    job = channel.job
    load = Grpo.of(job["load"])
    policy = open_policy(job)
    learner = make_learner(policy, packed=job.get("packed", True), micro_batch_tokens=job["micro_batch_tokens"])
    sampler = Sampler(policy, max_batch=512, staleness=1)
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        if job["whole"]:
            store = Store.open(Path(folder) / "store.db")
            store.add_run(RunRecord(run_id="bench", recipe_hash="", recipe={}, seed=0, versions={}))
            step = _whole_step(policy, sampler, learner, store, load)
        else:
            step = _bare_step(policy, sampler, learner, load)
        answer(channel, lambda request: runner.run(step(request["round"])))
        runner.run(sampler.close())


async def _learn(learner: GradientLearner, sampler: Sampler, samples: Sequence[Sample]) -> dict[str, Any]:
    metrics = (await sampler.compute(lambda: learner.update(samples))).metrics
    sampler.publish(learner.version)
    tokens = sum(sample.trace.num_sampled for sample in samples)
    return {"tokens": tokens, "drift": metrics["drift"]}


def _bare_step(policy: Policy, sampler: Sampler, learner: GradientLearner, load: Grpo) -> Callable[[int], Any]:
    sampling = Sampling(max_tokens=load.new_tokens)

    async def step(number: int) -> dict[str, Any]:
        prefixes = [tuple(policy.template.encode_text(text)) for text in load.texts(number)]
        requests = [
            Request(prefix=prefix, sampling=sampling, stop_ids=(), seed=(number * load.prompts + p) * load.group + g)
            for p, prefix in enumerate(prefixes)
            for g in range(load.group)
        ]
        completions = await asyncio.gather(*(sampler.engine.generate(request) for request in requests))
        samples = [
            _sample(i, request, done, i // load.group)
            for i, (request, done) in enumerate(zip(requests, completions, strict=True))
        ]
        return await _learn(learner, sampler, samples)

    return step


def _sample(index: int, request: Request, done: Completion, group: int) -> Sample:
    call = Call(
        key=0,
        context=np.array(request.prefix, dtype=np.uint32),
        sampled=np.array(done.tokens, dtype=np.uint32),
        logprobs=np.array(done.logprobs, dtype=np.float32),
        policy_version=done.version,
    )
    trace = TraceBuilder([call]).finish(StopReason.TERMINATED)
    return Sample(trace_id=str(index), trace=trace, reward=even_share(list(done.tokens)), group=group)


class _Endless:
    """The engine, with answers that only their length ends: every side samples the same number of tokens."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self.capabilities = engine.capabilities

    @property
    def version(self) -> int:
        """Of the engine."""
        return self._engine.version

    async def generate(self, request: Request) -> Completion:
        """Continue without stop tokens."""
        return await self._engine.generate(replace(request, stop_ids=()))

    def publish(self, version: int) -> None:
        """To the engine."""
        self._engine.publish(version)

    def weights_hash(self) -> str:
        """Of the engine."""
        return self._engine.weights_hash()

    async def close(self) -> None:
        """The engine's owner closes it."""


def _whole_step(
    policy: Policy, sampler: Sampler, learner: GradientLearner, store: Store, load: Grpo
) -> Callable[[int], Any]:
    gateway = Gateway(
        _Endless(sampler.current),
        policy.template,
        sampling=Sampling(max_tokens=load.new_tokens),
        context_length=policy.context_length,
    )
    runner = RolloutRunner(make_world(), gateway, RolloutSettings())

    async def step(number: int) -> dict[str, Any]:
        specs = [
            GroupSpec(
                group_id=f"bench/train/{number:06d}/{place:04d}",
                run_id="bench",
                purpose="train",
                step=number,
                task=Task(key=f"{number}/{place}", environment="bench", payload={"says": [text]}, split="train"),
                size=load.group,
                seed=number * load.prompts + place,
            )
            for place, text in enumerate(load.texts(number))
        ]
        groups = await runner.run(specs, policy_version=learner.version)
        store.append_groups(groups)
        samples = [
            Sample(trace_id=group.trace_id(member), trace=member.trace, reward=member.verdict.reward, group=place)
            for place, group in enumerate(groups)
            for member in group.members
            if member.verdict.reward is not None
        ]
        if len(samples) < load.prompts * load.group:
            raise RuntimeError(f"a session failed: {next(m.verdict.error for g in groups for m in g.members)}")
        facts = await _learn(learner, sampler, samples)
        store.consume("bench", [group.group_id for group in groups], step=number)
        store.log_metrics("bench", number, rollout_metrics(groups))
        return facts

    return step
