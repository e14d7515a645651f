"""Local rollouts: who samples, and how, follows from the purpose of the groups."""

from __future__ import annotations

import asyncio

from askesis.environments import World
from askesis.recipe import Recipe
from askesis.training.groups import group_specs
from askesis.training.pieces import open_policy
from askesis.training.preflight import open_world
from askesis.training.rollouts import LocalRollouts
from askesis.training.sampler import Sampler


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
