"""Rollout workers in a thread of this process, with an event loop of their own: actors without Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from askesis.environments.hosting import Crew
from askesis.policy.voice import Facts
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec
from askesis.training.dispatch import Played
from askesis.training.published import Published
from askesis.training.ray_link import WorkerLost
from askesis.training.rollout_worker import RolloutWorker


class Threads:
    """A pool. The calls with the numbers in ``losses``, over all, lose their worker, when they are done."""

    losses: frozenset[int] = frozenset()
    spoils = 0
    """Call of ``load`` that takes other weights than it is given; 0: none."""

    def __init__(self, recipe: Recipe, facts: Facts | None) -> None:
        self._start = (recipe.model_dump(), facts)
        self.size = recipe.cluster.workers
        self.workers: dict[int, RolloutWorker] = {}
        self.calls = self.loads = 0
        self.played: list[tuple[int, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def start(self, place: int) -> str:
        values, facts = self._start
        self.workers[place] = RolloutWorker(values, facts=facts, crew=self.crew())
        return str(await self._there(self.workers[place].ready()))

    def crew(self) -> Crew | None:
        return None

    async def load(self, place: int, weights: Published) -> str:
        self.loads += 1
        content: Any = weights.content
        if self.loads == self.spoils:
            content = {name: tensor + 0.01 for name, tensor in content.items()}
        digest = str(await self._there(self.workers[place].load(weights.version, content)))
        self._count()
        return digest

    async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
        played: Played = await self._there(self.workers[place].play(spec, version))
        self._count()
        self.played.append((place, spec.group_id))
        return played

    async def close(self) -> None:
        for worker in self.workers.values():
            await self._there(worker.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def _count(self) -> None:
        self.calls += 1
        if self.calls in self.losses:
            raise WorkerLost(cause="for the test")

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
