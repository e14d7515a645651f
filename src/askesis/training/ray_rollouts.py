"""Groups played by actors of a Ray cluster. Ray places them, starts them and notices their deaths; who plays what, and
again, is decided by :class:`askesis.training.dispatch.Dispatcher`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from askesis.clock import SystemClock
from askesis.engines.vllm import VllmEngine
from askesis.gateway import Session
from askesis.metering import Activity, charging
from askesis.policy.loading import Policy
from askesis.policy.voice import Facts, digest_of_talk, facts_of
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, Outcome
from askesis.store import Group
from askesis.trace import Budgets
from askesis.training.dispatch import Dispatcher, Played
from askesis.training.published import Publications, Published, frozen_digest
from askesis.training.ray_hosts import make_crew
from askesis.training.ray_link import RayLink
from askesis.training.rollout_worker import RolloutWorker
from askesis.training.rollouts import Play
from askesis.training.sampler import Sampler

__all__ = ["RayRollouts", "RayWorkers", "RolloutActor"]

_CONCURRENCY = 1_000


class RolloutActor(RolloutWorker):
    """A rollout worker with environment workers of its own, if the recipe wants them."""

    def __init__(self, recipe: Mapping[str, Any], facts: Facts | None) -> None:
        own = Recipe.model_validate(recipe)
        super().__init__(recipe, facts=facts, crew=make_crew(own) if own.cluster.environment_workers else None)


class RayWorkers:
    """See :class:`askesis.training.dispatch.Pool`. Connects to Ray, or starts it, at once.

    Args:
        recipe: of the run; its section ``cluster`` says how many workers and what each may use.
        facts: of the policy, for workers that ask servers and do not load it.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """

    def __init__(self, recipe: Recipe, facts: Facts | None) -> None:
        section = self._section = recipe.cluster
        self._link = RayLink(section)
        self._make = self._link.actor(
            RolloutActor, cpus=section.cpus_per_worker, gpus=section.gpus_per_worker, concurrency=_CONCURRENCY
        )
        self._start = (recipe.model_dump(), facts)
        self._actors: dict[int, Any] = {}
        self._contents: dict[int, Any] = {}

    @property
    def size(self) -> int:
        """How many workers."""
        return self._section.workers

    async def start(self, place: int) -> str:
        """See :class:`askesis.training.dispatch.Pool`."""
        old = self._actors.pop(place, None)
        if old is not None:
            self._link.kill(old)
        self._actors[place] = self._make.remote(*self._start)
        found: str = await self._link.result(self._actors[place].ready.remote())
        return found

    async def load(self, place: int, weights: Published) -> str:
        """See :class:`askesis.training.dispatch.Pool`. Each version enters Ray's store of objects once."""
        version = weights.version
        if version not in self._contents:
            newest = max(self._contents, default=version)
            self._contents = {newest: self._contents[newest]} if self._contents else {}
            self._contents[version] = self._link.put(weights.content)
        found: str = await self._link.result(self._actors[place].load.remote(version, self._contents[version]))
        return found

    async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
        """See :class:`askesis.training.dispatch.Pool`."""
        played: Played = await self._link.result(self._actors[place].play.remote(spec, version))
        return played

    async def close(self) -> None:
        """End the workers, and Ray too if it was started here."""
        for actor in self._actors.values():
            self._link.kill(actor)
        self._actors.clear()
        await self._link.close()


class RayRollouts:
    """See :class:`askesis.training.rollouts.Rollouts`.

    Args:
        recipe: of the run.
        policy: the learner's.
        sampler: what it publishes is what workers sample from.
        warn: told of lost and slow workers.
    """

    def __init__(self, recipe: Recipe, policy: Policy, sampler: Sampler, *, warn: Callable[[str], None]) -> None:
        asks_servers = isinstance(sampler.current, VllmEngine)
        self._dispatcher = Dispatcher(
            RayWorkers(recipe, facts_of(policy) if asks_servers else None),
            wanted=partial(_at_servers, sampler) if asks_servers else Publications(sampler).wanted,
            frozen=digest_of_talk(policy.tokenizer) if asks_servers else frozen_digest(policy),
            per_worker=recipe.cluster.groups_per_worker,
            warn=warn,
        )
        sampler.pause_with(self._dispatcher.held)

    @asynccontextmanager
    async def open(self, *, on_session: Callable[[Outcome], None] | None = None) -> AsyncIterator[Play]:
        """See :class:`askesis.training.rollouts.Rollouts`."""
        yield self._playing(on_session)

    def _playing(self, on_session: Callable[[Outcome], None] | None) -> Play:
        async def one(spec: GroupSpec) -> Group:
            group = await self._dispatcher.play(spec)
            if on_session is not None:
                for outcome in outcomes_of(group):
                    on_session(outcome)
            return group

        return one

    @property
    def metrics(self) -> dict[str, float]:
        """Workers that were lost, and groups that were played again, so far."""
        return {
            "workers_lost": float(self._dispatcher.lost),
            "groups_repeated": float(self._dispatcher.repeated),
        }

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        """See :class:`askesis.training.rollouts.Rollouts`. The time that workers take counts as sampling."""
        one = self._playing(on_session)

        with charging(Activity.SAMPLING):
            tasks = [asyncio.create_task(one(spec)) for spec in specs]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

    async def close(self) -> None:
        """End the workers."""
        await self._dispatcher.close()


def _at_servers(sampler: Sampler, purpose: str) -> Published:
    """Where the present weights are, for groups of any purpose. Whoever delivered them has verified them."""
    assert isinstance(sampler.current, VllmEngine)
    return Published(version=sampler.current.version, content=sampler.current.servers, digest="")


def outcomes_of(group: Group) -> list[Outcome]:
    """What is left of a group's sessions, for those who watch them end. Budgets and clock stayed with the worker."""
    return [
        Outcome(
            session=Session(
                id=group.trace_id(member),
                task=group.task,
                group_id=group.group_id,
                member_index=member.member_index,
                seed=member.seed,
                policy_version=member.policy_version,
                budgets=Budgets(),
                clock=SystemClock(),
            ),
            trace=member.trace,
            verdict=member.verdict,
            duration_s=member.duration_s or 0.0,
        )
        for member in group.members
    ]
