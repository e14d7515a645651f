"""Environments in actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from askesis.environments import World
from askesis.environments.hosting import Crew, EnvironmentHost, HostGone
from askesis.recipe import Recipe
from askesis.recipe.places import ClusterSection
from askesis.training.preflight import open_world
from askesis.training.ray_link import RayLink, WorkerLost

__all__ = ["RayHosts", "make_crew"]

_CONCURRENCY = 10_000
"""Calls of one host under way at once: more than it has sessions."""


class RayHosts:
    """See :class:`askesis.environments.hosting.Hosts`. Connects to Ray, or starts it, at once.

    Args:
        section: how many environment workers, and what each may use.
        world: opens the world; called in each worker.
    """

    def __init__(self, section: ClusterSection, world: Callable[[], World]) -> None:
        self._section, self._world = section, world
        self._link = RayLink(section)
        self._make = self._link.actor(
            EnvironmentHost, cpus=section.cpus_per_environment_worker, concurrency=_CONCURRENCY
        )
        self._actors: dict[int, Any] = {}

    @property
    def size(self) -> int:
        """How many environment workers."""
        return self._section.environment_workers

    async def start(self, place: int) -> None:
        """Put a new host into a place; see :class:`askesis.environments.hosting.Hosts`."""
        old = self._actors.pop(place, None)
        if old is not None:
            self._link.kill(old)
        self._actors[place] = self._make.remote(self._world)
        await self.call(place, "alive")

    async def call(self, place: int, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call a host; see :class:`askesis.environments.hosting.Hosts`."""
        try:
            reference = getattr(self._actors[place], method).remote(*arguments)
            return await self._link.result(reference, timeout_s, foreign=True)
        except WorkerLost as lost:
            raise HostGone(
                "an environment worker was lost", where=f"environment worker {place}, {method}", got=lost.cause
            ) from None

    async def close(self) -> None:
        """End the hosts, and Ray too if it was started here."""
        for actor in self._actors.values():
            self._link.kill(actor)
        self._actors.clear()
        await self._link.close()


def make_crew(recipe: Recipe) -> Crew:
    """The environment workers of one player of ``recipe``."""
    return Crew(RayHosts(recipe.cluster, partial(_world_of, recipe.model_dump())))


def _world_of(recipe: Mapping[str, Any]) -> World:
    return open_world(Recipe.model_validate(recipe))
