"""Updates of our learner on finished conversations. Building the traces is not measured: a run has them already."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from askesis.learners import Sample
from askesis.policy.loading import Policy
from askesis.trace import Call, StopReason, TraceBuilder
from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, make_learner, open_policy
from benchmarks.workload import Turns, even_share

__all__ = ["samples_of", "serve"]


def serve(channel: Channel) -> None:
    """Rounds of one update each; the job names the conversations, or the request does."""
    job = channel.job
    policy = open_policy(job)
    learner = make_learner(policy, packed=job.get("packed", True), micro_batch_tokens=job["micro_batch_tokens"])

    def update(request: dict[str, Any]) -> dict[str, Any]:
        load = Turns.of(request.get("load") or job["load"])
        samples = samples_of(load, request["round"], policy)
        channel.start()
        metrics = learner.update(samples).metrics
        return {"tokens": metrics["num_trained_tokens"]}

    answer(channel, update)


def samples_of(load: Turns, number: int, policy: Policy) -> list[Sample]:
    """The conversations of a round as judged traces, every call with its whole context."""
    vocabulary = policy.model.config.vocab_size
    samples = []
    for index, said in enumerate(load.conversations(number, vocabulary)):
        builder, context = TraceBuilder(), []
        for key, (text, sampled) in enumerate(said):
            context += policy.template.encode_text(text)
            builder.record(
                Call(
                    key=key,
                    context=np.array(context, dtype=np.uint32),
                    sampled=np.array(sampled, dtype=np.uint32),
                    logprobs=np.full(len(sampled), -math.log(vocabulary), dtype=np.float32),
                )
            )
            context += sampled
        samples.append(
            Sample(
                trace_id=str(index),
                trace=builder.finish(StopReason.TERMINATED),
                reward=even_share([i for _, ids in said for i in ids]),
                group=index // load.members,
            )
        )
    return samples
