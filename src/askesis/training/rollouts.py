"""Where the sessions of a run are played: the seam between the training loop and whoever plays groups for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from askesis.clock import Clock
from askesis.environments import World
from askesis.environments.hosting import Crew, hosted
from askesis.policy.loading import Policy
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, Outcome, RolloutRunner
from askesis.store import Group
from askesis.training.evaluating import evaluation_sampling
from askesis.training.pieces import make_runner, state_evaluator
from askesis.training.sampler import Sampler

__all__ = ["LocalRollouts", "Play", "Rollouts", "make_rollouts"]

Play = Callable[[GroupSpec], Coroutine[Any, Any, Group]]
"""Plays one group."""


class Rollouts(Protocol):
    """Plays groups. What a group's sessions sample from, and how, follows from its purpose."""

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """Play groups of one purpose side by side; one Group per spec, in order. A failed session is a member with its
        cause.
        """
        ...

    def open(self, *, on_session: Callable[[Outcome], None] | None = None) -> AbstractAsyncContextManager[Play]:
        """In this block training groups may be begun one by one, at any time; all must have ended when it is left."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """What happened so far to those who play, by name."""
        ...

    async def close(self) -> None:
        """Release what plays."""
        ...


class LocalRollouts:
    """Plays them in this process: ``train`` by the sampler's training engine, anything else by its present weights.

    Args:
        recipe: of the run.
        policy: the learner's.
        sampler: who samples.
        world: where they are played.
        crew: holds the environments, if they are not here; closed with this.
        warn: told of environment workers that were lost.
        clock: of the sessions; the machine's by default.
    """

    def __init__(
        self,
        recipe: Recipe,
        policy: Policy,
        sampler: Sampler,
        world: World,
        *,
        crew: Crew | None = None,
        warn: Callable[[str], None] = lambda text: None,
        clock: Clock | None = None,
    ) -> None:
        self._recipe, self._policy, self._sampler = recipe, policy, sampler
        self._clock = clock
        self._world = world if crew is None else hosted(world, crew)
        self._crew, self._warn = crew, warn

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """See :class:`Rollouts`."""
        if self._crew is not None:
            await self._crew.start()
        trains = specs[0].purpose == "train"
        engine = self._sampler.engine if trains else self._sampler.current
        groups = await self._runner(trains=trains).run(specs, policy_version=engine.version, on_session=on_session)
        self._tell()
        return groups

    @asynccontextmanager
    async def open(self, *, on_session: Callable[[Outcome], None] | None = None) -> AsyncIterator[Play]:
        """See :class:`Rollouts`."""
        if self._crew is not None:
            await self._crew.start()
        async with self._runner(trains=True).open(on_session=on_session) as table:

            async def play(spec: GroupSpec) -> Group:
                (group,) = await table.score_states([await table.play(spec, self._sampler.engine.version)])
                self._tell()
                return group

            yield play

    def _runner(self, *, trains: bool) -> RolloutRunner:
        recipe, sampler = self._recipe, self._sampler
        return make_runner(
            recipe,
            self._policy,
            sampler.engine if trains else sampler.current,
            self._world,
            None if trains else evaluation_sampling(recipe),
            states=state_evaluator(recipe) if trains else None,
            first=sampler.first if trains else None,
            clock=self._clock,
        )

    def _tell(self) -> None:
        for note in self._crew.take_notes() if self._crew is not None else ():
            self._warn(note)

    @property
    def metrics(self) -> dict[str, float]:
        """Environment workers that were lost so far, if there are any."""
        return {} if self._crew is None else {"environment_workers_lost": float(self._crew.lost)}

    async def close(self) -> None:
        """End the environment workers."""
        if self._crew is not None:
            await self._crew.close()


def make_rollouts(
    recipe: Recipe,
    policy: Policy,
    sampler: Sampler,
    world: World,
    *,
    warn: Callable[[str], None],
    clock: Clock | None = None,
) -> Rollouts:
    """Who plays the groups of ``recipe``. ``warn`` is told of lost workers; ``clock`` is that of sessions in this
    process.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """
    section = recipe.cluster
    if section.kind == "ray" and recipe.learner.kind == "gradient":
        from askesis.training.ray_rollouts import RayRollouts

        return RayRollouts(recipe, policy, sampler, warn=warn)
    if section.environment_workers:
        from askesis.training.ray_hosts import make_crew

        return LocalRollouts(recipe, policy, sampler, world, crew=make_crew(recipe), warn=warn, clock=clock)
    return LocalRollouts(recipe, policy, sampler, world, clock=clock)
