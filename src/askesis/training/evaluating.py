"""Held-out evaluation of a policy: sessions without learning, counted with intervals."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from askesis.engines import Engine, Remote, Sampling
from askesis.engines.embedded import EmbeddedEngine
from askesis.environments import World
from askesis.evaluation import Interval, best_constant, bootstrap_interval, pass_at_k, wilson_interval
from askesis.recipe import Recipe
from askesis.store import Group
from askesis.training.groups import group_specs, refuse_failures
from askesis.training.pieces import make_remote, make_runner, open_policy, set_threads
from askesis.training.report.data import Estimate, Evaluation

__all__ = ["evaluate_policy", "evaluation_of", "evaluation_sampling", "held_out_groups", "summarise"]


def evaluation_sampling(recipe: Recipe) -> Sampling:
    """How held-out answers are drawn: nothing is cut off but at the temperature of the evaluation."""
    return Sampling(temperature=recipe.evaluation.temperature, max_tokens=recipe.sampling.max_tokens)


def summarise(
    groups: Sequence[Group], *, label: str, temperature: float, pass_k: Sequence[int], seed: int
) -> Evaluation:
    """Count an evaluation's groups (one per task).

    Sessions without a verdict are errors: they are counted apart and enter no share.
    """
    members = [m for group in groups for m in group.members]
    judged = [m for m in members if m.verdict.completed is not None]
    successes = sum(bool(m.verdict.completed) for m in judged)
    replies = ["".join(c.reply.content for c in m.trace.acts if c.reply) for m in judged]
    answers = [str(g.task.payload["answer"]) for g in groups if g.task.payload.get("answer") is not None]
    counts = [
        (len(done), sum(bool(m.verdict.completed) for m in done))
        for done in ([m for m in g.members if m.verdict.completed is not None] for g in groups)
        if done
    ]
    return Evaluation(
        label=label,
        n=len(judged),
        successes=successes,
        interval=_interval(groups, successes, len(judged), seed),
        temperature=temperature,
        best_constant=best_constant(answers).share if answers else None,
        pass_at_k={
            k: _estimate([pass_at_k(n, c, k) for n, c in enough], seed)
            for k in pass_k
            if k > 1 and (enough := [count for count in counts if count[0] >= k])
        },
        format_share=_share([m.verdict.evidence.get("answer") is not None for m in judged]),
        think_share=_share(["<think>" in text for text in replies]),
        errors=len(members) - len(judged),
    )


def _interval(groups: Sequence[Group], successes: int, n: int, seed: int) -> Interval | None:
    """Wilson's interval for one answer per task; otherwise answers come in clusters, and tasks are resampled."""
    per_task = [[bool(m.verdict.completed) for m in g.members if m.verdict.completed is not None] for g in groups]
    if n == 0:
        return None
    if max(len(answers) for answers in per_task) == 1 or sum(bool(answers) for answers in per_task) < 2:
        return wilson_interval(successes, n)
    values = [float(right) for answers in per_task for right in answers]
    clusters = [place for place, answers in enumerate(per_task) for _ in answers]
    return bootstrap_interval(values, groups=clusters, seed=seed)


def _estimate(values: Sequence[float], seed: int) -> Estimate:
    """Mean over tasks with a bootstrap interval; a single task has no interval."""
    interval = bootstrap_interval(values, seed=seed) if len(values) > 1 else None
    return Estimate(value=sum(values) / len(values), interval=interval)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def evaluation_of(record: Mapping[str, Any]) -> Evaluation:
    """The inverse of ``dataclasses.asdict`` after a trip through JSON."""
    passes = {
        int(k): Estimate(value=e["value"], interval=None if e["interval"] is None else Interval(*e["interval"]))
        for k, e in record["pass_at_k"].items()
    }
    interval = None if record["interval"] is None else Interval(*record["interval"])
    return Evaluation(**{**record, "pass_at_k": passes, "interval": interval})


async def evaluate_policy(recipe: Recipe, world: World) -> Evaluation:
    """Measure the recipe's policy on its held-out tasks, without a run and without storing anything."""
    settings = recipe.evaluation
    groups = await held_out_groups(recipe, world)
    return summarise(
        groups, label="evaluation", temperature=settings.temperature, pass_k=settings.pass_k, seed=recipe.run.seed
    )


async def held_out_groups(recipe: Recipe, world: World) -> list[Group]:
    """The sessions of the recipe's policy on its held-out tasks. AskesisError when too many fail,
    see ``rollout.max_failed``.
    """
    settings = recipe.evaluation
    set_threads(recipe.run.threads)
    policy = open_policy(recipe.policy, seed=recipe.run.seed)
    folder = tempfile.TemporaryDirectory(prefix="askesis-engine-")
    remote = make_remote(recipe, policy, Path(folder.name))
    engine: Engine = remote or EmbeddedEngine(policy, max_batch=recipe.engine.max_batch)
    try:
        if isinstance(engine, Remote):
            await engine.start()
        tasks = world.tasks.distinct_tasks("held_out", settings.num_tasks)
        specs = group_specs("evaluate", "evaluation", 0, tasks, settings.samples, seed=recipe.run.seed)
        groups = await make_runner(recipe, policy, engine, world, evaluation_sampling(recipe)).run(
            specs, policy_version=0
        )
    finally:
        await engine.close()
        folder.cleanup()
    refuse_failures(groups, "evaluation", 0, recipe.rollout.max_failed)
    return groups
