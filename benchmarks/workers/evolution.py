"""Sampling alone, or a step of evolution around the same sampling; each member of a population samples the batch.

Members are worn one after the other, or ``side_by_side`` of them are sampled from in one batch.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from askesis.engines import Engine, Request, Sampling
from askesis.learners.evolution import EvolutionLearner, EvolutionSettings
from askesis.training.sampler import Sampler
from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, open_policy
from benchmarks.workload import Grpo, even_share

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one step each: ``members`` 0 only samples the batch, once."""
    job = channel.job
    load, members, count = Grpo.of(job["load"]), int(job["members"]), int(job.get("side_by_side", 1))
    policy = open_policy(job)
    sampler = Sampler(policy, max_batch=512, staleness=1)

    async def sample(number: int, engine: Engine, variant: int = 0) -> tuple[float, int]:
        sampling = Sampling(max_tokens=load.new_tokens)
        requests = [
            Request(
                prefix=tuple(policy.template.encode_text(text)),
                sampling=sampling,
                stop_ids=(),
                seed=seed,
                variant=variant,
            )
            for place, text in enumerate(load.texts(number))
            for seed in range(place * load.group, (place + 1) * load.group)
        ]
        done = await asyncio.gather(*(engine.generate(r) for r in requests))
        share = sum(even_share(list(completion.tokens)) for completion in done) / len(done)
        return share, sum(len(completion.tokens) for completion in done)

    if not members:

        async def step(request: dict[str, Any]) -> dict[str, Any]:
            return {"tokens": (await sample(request["round"], sampler.engine))[1]}
    else:
        learner = EvolutionLearner(
            policy,
            EvolutionSettings(
                method="es", population=members, first_population=0, sigma=1e-3, alpha=5e-4, rho=0.0, seed=0
            ),
        )

        async def step(request: dict[str, Any]) -> dict[str, Any]:
            sampled: list[tuple[float, int]] = []
            population = learner.ask().members
            if count == 1:
                for member in population:
                    await sampler.compute(partial(learner.put_on, member))
                    sampler.publish(learner.version)
                    sampled.append(await sample(request["round"], sampler.engine))
            else:
                engine, decoder = await sampler.variants(count)
                for start in range(0, len(population), count):
                    part = population[start : start + count]
                    for place, member in enumerate(part):
                        await sampler.compute(partial(learner.put_on, member))
                        await sampler.compute(partial(decoder.load, place))
                    engine.publish(learner.version)
                    sampled += await asyncio.gather(*(sample(request["round"], engine, v) for v in range(len(part))))
            await sampler.compute(lambda: learner.tell([score for score, _ in sampled]))
            sampler.publish(learner.version)
            return {"tokens": sum(tokens for _, tokens in sampled)}

    with asyncio.Runner() as runner:
        answer(channel, lambda request: runner.run(step(request)))
        runner.run(sampler.close())
