"""Local rollouts: who samples, and how, follows from the purpose of the groups."""

from __future__ import annotations

import asyncio

from askesis.environments import World
from askesis.environments.hosting import Crew
from askesis.recipe import Recipe
from askesis.store import Group
from askesis.training.groups import group_specs
from askesis.training.pieces import open_policy
from askesis.training.preflight import open_world
from askesis.training.rollouts import LocalRollouts, make_rollouts
from askesis.training.sampler import Sampler
from environments_near import Near


def _recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "run": {"seed": 3},
            "environment": {"name": "reasoning", "family": "decimal_chain_sum", "level": "nano"},
            "sampling": {"max_tokens": 4, "temperature": 1.0},
            "evaluation": {"num_tasks": 2, "temperature": 0.0},
            "training": {"staleness": 2},
        }
    )


def test_training_groups_come_from_the_engine_of_training_and_others_from_the_present_weights() -> None:
    recipe = _recipe()
    policy = open_policy(recipe.policy, seed=3)
    world: World = open_world(recipe)
    sampler = Sampler(policy, max_batch=8, staleness=2)
    rollouts = LocalRollouts(recipe, policy, sampler, world)
    task = world.tasks.task("train", 0)

    async def play() -> tuple[list[int], list[float]]:
        sampler.publish(1)  # the copy that trains is renewed after every second update
        versions, temperatures = [], []
        for purpose in ("train", "evaluation"):
            (group,) = await rollouts.play(group_specs("run", purpose, 0, [task], 2, seed=3))
            versions.append(group.members[0].policy_version)
            temperatures.append(group.members[0].trace.acts[0].sampling["temperature"])
        await sampler.close()
        return versions, temperatures

    assert asyncio.run(play()) == ([0, 1], [1.0, 0.0])


def test_environments_in_other_processes_change_nothing_and_their_losses_are_told() -> None:
    recipe = _recipe()
    policy, world = open_policy(recipe.policy, seed=3), open_world(recipe)
    sampler = Sampler(policy, max_batch=8, staleness=2)
    specs = group_specs("run", "train", 0, [world.tasks.task("train", i) for i in range(2)], 2, seed=3)
    near = Near(2, world=lambda: open_world(recipe), lost=frozenset({5}))  # at the first step, with two sessions
    heard: list[str] = []

    async def play() -> tuple[list[Group], list[Group], dict[str, float]]:
        here = make_rollouts(recipe, policy, sampler, world, warn=heard.append)
        there = LocalRollouts(recipe, policy, sampler, world, crew=Crew(near), warn=heard.append)
        expected, found = await here.play(specs), await there.play(specs)
        metrics = {**here.metrics, **there.metrics}
        await here.close()
        await there.close()
        await sampler.close()
        return expected, found, metrics

    expected, found, metrics = asyncio.run(play())
    members = [
        (one, other)
        for a, b in zip(expected, found, strict=True)
        for one, other in zip(a.members, b.members, strict=True)
    ]
    lost = [other for _, other in members if other.verdict.reward is None]
    assert [m.verdict.error.kind for m in lost if m.verdict.error is not None] == ["HostGone"] * 2
    assert all(one.verdict == other.verdict for one, other in members if other not in lost)
    assert metrics == {"environment_workers_lost": 1.0} and near.closed
    assert len(heard) == 1 and "killed by SIGKILL" in heard[0]
