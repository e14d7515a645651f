"""Sampling with the embedded engine."""

from __future__ import annotations

import asyncio
from typing import Any

from askesis.engines import Request, Sampling
from askesis.engines.embedded import EmbeddedEngine
from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, open_policy
from benchmarks.workload import Grpo

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one batch each; the request names the batch."""
    policy = open_policy(channel.job)
    engine = EmbeddedEngine(policy)

    async def sample(request: dict[str, Any]) -> dict[str, Any]:
        load = Grpo.of(request["load"])
        sampling = Sampling(max_tokens=load.new_tokens)
        requests = [
            Request(prefix=tuple(policy.template.encode_text(text)), sampling=sampling, stop_ids=(), seed=seed)
            for place, text in enumerate(load.texts(request["round"]))
            for seed in range(place * load.group, (place + 1) * load.group)
        ]
        done = await asyncio.gather(*(engine.generate(r) for r in requests))
        return {"tokens": sum(len(completion.tokens) for completion in done)}

    with asyncio.Runner() as runner:
        answer(channel, lambda request: runner.run(sample(request)))
        runner.run(engine.close())
