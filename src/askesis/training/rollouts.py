"""Where the sessions of a run are played: the seam between the training loop and whoever plays groups for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from askesis.environments import World
from askesis.environments.hosting import Crew, hosted
from askesis.policy.loading import Policy
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, Outcome
from askesis.store import Group
from askesis.training.evaluating import evaluation_sampling
from askesis.training.pieces import make_runner, state_evaluator
from askesis.training.sampler import Sampler

__all__ = ["LocalRollouts", "Rollouts", "make_rollouts"]


class Rollouts(Protocol):
    """Plays groups. What a group's sessions sample from, and how, follows from its purpose."""

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """Play groups of one purpose side by side; one Group per spec, in order. A failed session is a member with its
        cause.
        """
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
    ) -> None:
        self._recipe, self._policy, self._sampler = recipe, policy, sampler
        self._world = world if crew is None else hosted(world, crew)
        self._crew, self._warn = crew, warn

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """See :class:`Rollouts`."""
        recipe, sampler, crew = self._recipe, self._sampler, self._crew
        if crew is not None:
            await crew.start()
        trains = specs[0].purpose == "train"
        engine = sampler.engine if trains else sampler.current
        runner = make_runner(
            recipe,
            self._policy,
            engine,
            self._world,
            None if trains else evaluation_sampling(recipe),
            states=state_evaluator(recipe) if trains else None,
            first=sampler.first if trains else None,
        )
        groups = await runner.run(specs, policy_version=engine.version, on_session=on_session)
        for note in crew.take_notes() if crew is not None else ():
            self._warn(note)
        return groups

    @property
    def metrics(self) -> dict[str, float]:
        """Environment workers that were lost so far, if there are any."""
        return {} if self._crew is None else {"environment_workers_lost": float(self._crew.lost)}

    async def close(self) -> None:
        """End the environment workers."""
        if self._crew is not None:
            await self._crew.close()


def make_rollouts(
    recipe: Recipe, policy: Policy, sampler: Sampler, world: World, *, warn: Callable[[str], None]
) -> Rollouts:
    """Who plays the groups of ``recipe``. ``warn`` is told of lost workers.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """
    section = recipe.cluster
    if section.kind == "ray" and recipe.learner.kind == "gradient":
        from askesis.training.ray_rollouts import RayRollouts

        return RayRollouts(recipe, policy, sampler, warn=warn)
    if section.environment_workers:
        from askesis.training.ray_hosts import make_crew

        return LocalRollouts(recipe, policy, sampler, world, crew=make_crew(recipe), warn=warn)
    return LocalRollouts(recipe, policy, sampler, world)
