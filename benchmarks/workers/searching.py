"""A step on search sessions: played side by side, judged, learned from.

Ours keeps keys and values of earlier turns and reads every distinct token of a batch once. The other way, one sample
per call, keeps nothing from turn to turn and trains on each call as a sequence of its own with its whole context. It is
written as well as its layout allows: calls of like length share a micro-batch, padded on the right, where a causal
model needs no mask; the unembedding sees only the sampled positions; members of a group share the reading of their
first prompt when they are sampled. Shape suffixes: B calls, T positions, N sampled tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from askesis.algorithms import build
from askesis.engines.embedded import EmbeddedEngine
from askesis.environments.search.demonstrations import INSTRUCTION
from askesis.learners import GradientLearner, LearnerSettings, Sample
from askesis.policy.loading import Policy
from askesis.recipe import Recipe
from askesis.training.groups import group_specs
from askesis.training.pieces import make_runner
from askesis.training.preflight import open_world
from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, open_policy

__all__ = ["Call", "backward", "calls_of", "serve"]

_LR = 1e-9
"""The weights hardly move, so that both sides play the same sessions in every round; the work is the same."""


class Call(NamedTuple):
    """One call as a training sample."""

    ids: list[int]
    """Context and sampled tokens."""
    num_sampled: int
    advantage: float


def serve(channel: Channel) -> None:
    """Rounds of one step each; the job says how many questions, members and facts, and which way."""
    job = channel.job
    policy = open_policy(job)
    recipe = _recipe(job["facts"])
    world = open_world(recipe)
    engine = EmbeddedEngine(policy, kv_tokens=None if job["reuse"] else 0)
    learn = _learner(policy, job)

    async def step(number: int) -> dict[str, Any]:
        engine.publish(number)
        tasks = [world.tasks.task("train", number * job["questions"] + i) for i in range(job["questions"])]
        specs = group_specs("bench", "train", number, tasks, job["members"], seed=number)
        groups = await make_runner(recipe, policy, engine, world).run(specs, policy_version=number)
        samples = [
            Sample(trace_id=g.trace_id(m), trace=m.trace, reward=m.verdict.reward, group=place)
            for place, g in enumerate(groups)
            for m in g.members
            if m.verdict.reward is not None
        ]
        if len(samples) < job["questions"] * job["members"]:
            raise RuntimeError(f"a session failed: {next(m.verdict.error for g in groups for m in g.members)}")
        learn(samples)
        return {
            "tokens": sum(s.trace.num_sampled for s in samples),
            "samples": sum(len(s.trace.calls) for s in samples),
            "per_call_tokens": sum(len(c.context) + len(c.sampled) for s in samples for c in s.trace.calls),
            "distinct_tokens": sum(s.trace.num_tokens for s in samples),
        }

    with asyncio.Runner() as runner:
        answer(channel, lambda request: runner.run(step(request["round"])))
        runner.run(engine.close())


def _recipe(facts: int) -> Recipe:
    """Everything in the context; as many searches as there are facts."""
    return Recipe.model_validate(
        {
            "environment": {
                "name": "search",
                "family": "chain",
                "options": {"retriever": "fts5", "min_hops": facts, "max_hops": facts, "reward": "f1"},
            },
            "agent": {"instruction": INSTRUCTION, "max_tool_calls": facts},
            "sampling": {"max_tokens": 48},
            "rollout": {"max_turns": facts + 2, "call_timeout_s": 3600.0, "max_session_s": 86400.0},
        }
    )


def _learner(policy: Policy, job: dict[str, Any]) -> Callable[[Sequence[Sample]], object]:
    if job["packed"]:
        settings = LearnerSettings(
            lr=_LR, micro_batch_tokens=job["micro_batch_tokens"], packed=True, threads=torch.get_num_threads()
        )
        return GradientLearner(policy, build("grpo", {"kl_beta": 0.0}), settings).update
    model: Any = policy.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LR, betas=(0.9, 0.99), weight_decay=0.0)

    def update(samples: Sequence[Sample]) -> None:
        optimizer.zero_grad(set_to_none=True)
        backward(model, calls_of(samples), job["micro_batch_tokens"])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def calls_of(samples: Sequence[Sample]) -> list[Call]:
    """Every call with its whole context and its episode's advantage within the group."""
    rewards: dict[int, list[float]] = {}
    for sample in samples:
        rewards.setdefault(sample.group, []).append(sample.reward)
    spread = {group: torch.tensor(values) for group, values in rewards.items()}
    calls = []
    for sample in samples:
        of_group = spread[sample.group]
        advantage = float((sample.reward - of_group.mean()) / (of_group.std() + 1e-4))
        for call in sample.trace.calls:
            calls.append(Call([*call.context.tolist(), *call.sampled.tolist()], len(call.sampled), advantage))
    return calls


def backward(model: Any, calls: Sequence[Call], max_tokens: int) -> None:
    """Add the gradient of the GRPO loss at its first step: the mean over calls of the mean over sampled tokens."""
    for batch in _batches(sorted(calls, key=lambda call: len(call.ids)), max_tokens):
        width = max(len(call.ids) for call in batch)
        ids_BT = torch.tensor([call.ids + [0] * (width - len(call.ids)) for call in batch])
        at_BT = torch.zeros(len(batch), width, dtype=torch.bool)  # the places that predict a sampled token
        for row, call in enumerate(batch):
            at_BT[row, len(call.ids) - call.num_sampled - 1 : len(call.ids) - 1] = True
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        logits_NV = model.lm_head(hidden_BTD[at_BT]).float()
        logp_N = logits_NV.log_softmax(-1).gather(-1, ids_BT[:, 1:][at_BT[:, :-1]][:, None])[:, 0]
        weight_N = torch.tensor([c.advantage / c.num_sampled / len(calls) for c in batch for _ in range(c.num_sampled)])
        ratio_N = (logp_N - logp_N.detach()).exp()
        clipped_N = ratio_N.clamp(0.8, 1.2)
        torch.autograd.backward(-torch.minimum(ratio_N * weight_N, clipped_N * weight_N).sum())


def _batches(calls: Sequence[Call], max_tokens: int) -> Iterator[list[Call]]:
    """Calls of ascending length, ``max_tokens`` places a batch at most, or a single call."""
    batch: list[Call] = []
    for call in calls:
        if batch and (len(batch) + 1) * len(call.ids) > max_tokens:
            yield batch
            batch = []
        batch.append(call)
    if batch:
        yield batch
