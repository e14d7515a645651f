"""Workers that play populations, as actors of a Ray cluster: Ray places them, starts them and notices their deaths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from askesis.recipe import Recipe
from askesis.store import Group
from askesis.training.ray_link import RayLink
from askesis.training.remote import Base, PopulationWorker, Scores

__all__ = ["RayPool"]


class RayPool:
    """See :class:`askesis.training.remote.Pool`. Connects to Ray, or starts it, at once.

    Args:
        recipe: of the run; its section ``cluster`` says how many workers and what each may use.
        run_id: of the run.
        base: where workers start. It travels once, through Ray's own store of objects.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """

    def __init__(self, recipe: Recipe, run_id: str, base: Base) -> None:
        section = self._section = recipe.cluster
        self._link = RayLink(section)
        self._make = self._link.actor(PopulationWorker, cpus=section.cpus_per_worker, gpus=section.gpus_per_worker)
        self._start = (recipe.model_dump(), run_id, self._link.put(base))
        self._actors: dict[int, Any] = {}

    @property
    def size(self) -> int:
        """How many workers."""
        return self._section.workers

    async def start(self, place: int, history: Sequence[Scores]) -> None:
        """Put a new worker into a place; the one that was there is ended."""
        old = self._actors.pop(place, None)
        if old is not None:
            self._link.kill(old)
        self._actors[place] = self._make.remote(*self._start, history)

    async def evaluate(self, place: int, step: int, first: int, count: int) -> list[list[Group]]:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        played: list[list[Group]] = await self._link.result(self._actors[place].evaluate.remote(step, first, count))
        return played

    async def tell(self, place: int, scores: Scores) -> str:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        found: str = await self._link.result(self._actors[place].tell.remote(scores))
        return found

    async def close(self) -> None:
        """End the workers, and Ray too if it was started here."""
        for actor in self._actors.values():
            self._link.kill(actor)
        self._actors.clear()
        await self._link.close()
