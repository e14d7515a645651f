"""Where the groups of a training step come from, and who is told that the weights have changed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from askesis.environments import World
from askesis.learners import GradientLearner
from askesis.recipe import Recipe
from askesis.store import Store
from askesis.training.asynchronous import Overlapping
from askesis.training.observe.observer import Observer
from askesis.training.parts import Parts
from askesis.training.playing import Played, Player, StepByStep
from askesis.training.rollouts import Rollouts

__all__ = ["Source", "make_source"]


class Source(Protocol):
    """Gives each step its groups."""

    def open(self, step: int) -> AbstractAsyncContextManager[None]:
        """Everything else happens in this block; ``step`` is the first."""
        ...

    async def next(self, step: int) -> Played:
        """The groups of a step."""
        ...

    def weights_at_rest(self) -> AbstractAsyncContextManager[None]:
        """In this block the learner's weights may change, and nobody takes them."""
        ...

    async def renew(self) -> None:
        """The learner has new weights."""
        ...

    async def settle(self) -> None:
        """Before an evaluation: wait until what it samples from has the learner's weights."""
        ...


def make_source(
    recipe: Recipe,
    world: World,
    store: Store,
    observer: Observer,
    parts: Parts,
    player: Player,
    rollouts: Rollouts,
) -> Source:
    """Step by step, or overlapping, as the recipe says."""
    learner, sampler = parts.learner, parts.sampler
    assert isinstance(learner, GradientLearner)
    if not recipe.asynchronous.enabled:
        return StepByStep(recipe, world, learner, sampler, player)
    return Overlapping(recipe, player.run_id, world, learner, sampler, store, observer, rollouts)
