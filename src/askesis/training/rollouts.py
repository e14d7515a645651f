"""Where the sessions of a run are played: the seam between the training loop and whoever plays groups for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from askesis.environments import World
from askesis.policy.loading import Policy
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, Outcome
from askesis.store import Group
from askesis.training.evaluating import evaluation_sampling
from askesis.training.pieces import make_runner, state_evaluator
from askesis.training.sampler import Sampler

__all__ = ["LocalRollouts", "Rollouts"]


class Rollouts(Protocol):
    """Plays groups. What a group's sessions sample from, and how, follows from its purpose."""

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """Play groups of one purpose side by side; one Group per spec, in order. A failed session is a member with its
        cause.
        """
        ...


class LocalRollouts:
    """Plays them in this process: ``train`` by the sampler's training engine, anything else by its present weights."""

    def __init__(self, recipe: Recipe, policy: Policy, sampler: Sampler, world: World) -> None:
        self._recipe, self._policy, self._sampler, self._world = recipe, policy, sampler, world

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """See :class:`Rollouts`."""
        recipe, sampler = self._recipe, self._sampler
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
        return await runner.run(specs, policy_version=engine.version, on_session=on_session)
