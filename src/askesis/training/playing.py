"""Groups that a step waits for: from the store if they were committed, otherwise sampled, judged and committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from askesis.environments import World
from askesis.errors import CheckpointError
from askesis.learners import GradientLearner
from askesis.metering import Activity, charging
from askesis.recipe import Recipe
from askesis.store import Group, Store
from askesis.trace import Task
from askesis.training.groups import group_specs, is_constant, refuse_failures
from askesis.training.observe.observer import Observer
from askesis.training.rollouts import Rollouts
from askesis.training.sampler import Sampler

__all__ = ["Played", "Player", "StepByStep", "stored", "ticking"]


class Played(NamedTuple):
    """The groups of a training step."""

    groups: list[Group]
    metrics: dict[str, float | None]


def stored(store: Store, group_id: str) -> Group:
    """A group that the store must have. Raises CheckpointError."""
    group = store.group(group_id)
    if group is None:
        raise CheckpointError("the store lacks a group of a committed step", where=group_id)
    return group


@contextmanager
def ticking(observer: Observer, awaited: str) -> Iterator[None]:
    """The progress shows that something is waited for."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.5)
            observer.progress.tick(awaited)

    waiting = asyncio.create_task(tick())
    try:
        yield
    finally:
        waiting.cancel()


class Player:
    """Plays the groups of a run's steps and evaluations, each set once."""

    def __init__(self, recipe: Recipe, run_id: str, store: Store, rollouts: Rollouts, observer: Observer) -> None:
        self._recipe, self.run_id, self._store = recipe, run_id, store
        self._rollouts, self._observer = rollouts, observer

    async def groups(
        self, purpose: str, step: int, tasks: Sequence[Task], size: int, *, first_place: int = 0
    ) -> list[Group]:
        """One group per task. They are committed in one transaction; a second call takes them from the store.

        Raises:
            AskesisError: every session failed, or too many.
        """
        prefix = f"{self.run_id}/{purpose}/{step:06d}"
        places = range(first_place, first_place + len(tasks))
        with charging(Activity.STORE):
            if self._store.group(f"{prefix}/{first_place:04d}") is not None:  # they are committed all or not at all
                return [stored(self._store, f"{prefix}/{place:04d}") for place in places]
        seed = self._recipe.run.seed
        specs = group_specs(self.run_id, purpose, step, tasks, size, seed=seed, first_place=first_place)
        awaited = f"{len(specs) * size} sessions of {purpose} step {step}"
        with ticking(self._observer, awaited), self._observer.phase("rollout", sessions=len(specs) * size):
            groups = await self._rollouts.play(specs, on_session=self._observer.on_session)
        refuse_failures(groups, purpose, step, self._recipe.rollout.max_failed)
        with self._observer.phase("store", Activity.STORE):
            self._store.append_groups(groups)
        return groups


class StepByStep:
    """Synchronous training: a step samples its groups, and then learns from them."""

    def __init__(
        self, recipe: Recipe, world: World, learner: GradientLearner, sampler: Sampler, player: Player
    ) -> None:
        self._recipe, self._world, self._learner = recipe, world, learner
        self._sampler, self._player = sampler, player

    @asynccontextmanager
    async def open(self, step: int) -> AsyncIterator[None]:
        """Nothing has to be kept going."""
        yield

    @asynccontextmanager
    async def weights_at_rest(self) -> AsyncIterator[None]:
        """Nobody samples while the learner computes."""
        yield

    async def renew(self) -> None:
        """The learner has new weights: bring them to what samples."""
        await self._sampler.deliver()

    async def settle(self) -> None:
        """They have them since :meth:`renew`."""

    async def next(self, step: int) -> Played:
        """The groups of a step; with dynamic sampling, more of them while too many teach nothing."""
        rollout = self._recipe.rollout
        rounds = rollout.max_resamples if self._learner.algorithm.resamples_constant_groups else 0
        groups = await self._round(step, 0, rollout.groups_per_step)
        for number in range(1, rounds + 1):
            missing = rollout.groups_per_step - sum(not is_constant(g) for g in groups)
            if missing <= 0:
                break
            groups += await self._round(step, number, missing)
        return Played(groups, {})

    async def _round(self, step: int, number: int, count: int) -> list[Group]:
        """``count`` fresh groups; each round of each step has tasks of its own."""
        width = self._recipe.rollout.groups_per_step
        first = (number * self._recipe.training.steps + step) * width
        with charging(Activity.ENVIRONMENT):
            tasks = [self._world.tasks.task("train", first + i) for i in range(count)]
        size = self._recipe.rollout.group_size
        return await self._player.groups("train", step, tasks, size, first_place=number * width)
