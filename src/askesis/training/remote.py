"""Populations played by other processes, which are sent numbers and answer with rewards.

Every worker holds the policy and follows the run by itself: a step's members are seeds that it derives as the driver
does, its tasks come from the recipe, and what the step did to the weights follows from the members' scores. So no
weights travel after the start, and after every step each worker's weights must have the driver's hash: it is checked.
A worker that is lost is replaced by one that starts from the same base and is told all scores since.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from askesis.environments import World
from askesis.errors import EngineError
from askesis.learners.evolution import EvolutionLearner, Population
from askesis.policy.loading import weights_hash
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec
from askesis.store import Group
from askesis.trace import TraceBuilder
from askesis.training.evolving import make_evaluator, population_specs
from askesis.training.pieces import make_evolution, open_policy, set_threads
from askesis.training.preflight import open_world
from askesis.training.ray_link import WorkerLost
from askesis.training.sampler import Sampler, load_weights

__all__ = ["Base", "Pool", "PopulationWorker", "RemoteEvaluator", "Scores", "WorkerLost"]

T = TypeVar("T")

Scores = Sequence[float | None]

_TRIES = 3
"""Workers that may be lost over one part of a population before the run stops: the cause is not chance then."""


class Base(NamedTuple):
    """Where a worker starts: the driver's weights and what its learner holds besides."""

    weights: Mapping[str, torch.Tensor]
    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, learner: EvolutionLearner) -> Base:
        """A copy of what the learner has now. Only between steps."""
        tensors, values = learner.state_dict()
        weights = {name: parameter.detach().cpu().clone() for name, parameter in learner.policy.trainable()}
        return cls(weights, tensors, values)


class PopulationWorker:
    """One process's copy of a run that evolves.

    Args:
        recipe: values of the run's recipe, as ``Recipe.model_dump`` gives them.
        run_id: of the run.
        base: where to start.
        history: scores of every population since ``base``, in order.
    """

    def __init__(self, recipe: Mapping[str, Any], run_id: str, base: Base, history: Sequence[Scores]) -> None:
        self._recipe = Recipe.model_validate(recipe)
        self._run_id = run_id
        set_threads(self._recipe.run.threads)
        policy = open_policy(self._recipe.policy, seed=self._recipe.run.seed)
        load_weights(policy, base.weights)
        self._learner = make_evolution(self._recipe, policy, Path(tempfile.gettempdir()))
        self._learner.load_state_dict(base.tensors, base.values)
        self._world: World = open_world(self._recipe)
        self._sampler: Sampler | None = None
        for scores in history:
            self._learner.tell(scores)

    async def evaluate(self, step: int, first: int, count: int) -> list[list[Group]]:
        """Play the step's tasks with ``count`` members of the present population, from number ``first`` on."""
        section = self._recipe.engine
        if self._sampler is None:  # in the loop that it will be used from
            self._sampler = Sampler(
                self._learner.policy,
                max_batch=section.max_batch,
                staleness=1,
                admission=section.admission,
                kv_tokens=section.kv_tokens,
            )
        whole = self._learner.ask()
        part = replace(whole, members=whole.members[first : first + count])
        specs = population_specs(self._recipe, self._run_id, self._world, step, whole.stage)
        evaluator = make_evaluator(self._recipe, self._learner, self._sampler, self._world)
        played = await evaluator.evaluate(part, specs, first=first)
        return played if self._recipe.cluster.keep_sessions else [[_rewards_only(g) for g in mine] for mine in played]

    async def tell(self, scores: Scores) -> str:
        """Learn what the driver learned; the hash of the weights after it."""
        self._learner.tell(scores)
        if self._sampler is not None:
            self._sampler.publish(self._learner.version)
        return weights_hash(self._learner.policy.model)


def _rewards_only(group: Group) -> Group:
    """The verdicts, and of each session only how it ended."""
    members = tuple(
        replace(
            member,
            trace=TraceBuilder().finish(
                member.trace.stop,
                failure=member.trace.failure,
                events=[{"kind": "not_kept", "tokens": member.trace.num_sampled}],
            ),
        )
        for member in group.members
    )
    return replace(group, members=members)


class Pool(Protocol):
    """Workers in places 0 to ``size`` - 1."""

    @property
    def size(self) -> int:
        """How many."""
        ...

    async def start(self, place: int, history: Sequence[Scores]) -> None:
        """Put a new worker into a place."""
        ...

    async def evaluate(self, place: int, step: int, first: int, count: int) -> list[list[Group]]:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        ...

    async def tell(self, place: int, scores: Scores) -> str:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        ...

    async def close(self) -> None:
        """End the workers."""
        ...


class RemoteEvaluator:
    """Plays populations by the workers of a pool, each a part of the members."""

    def __init__(self, learner: EvolutionLearner, pool: Pool, *, side_by_side: int) -> None:
        self._learner, self._pool = learner, pool
        self._grain = side_by_side
        self._history: list[Scores] = []
        self._started = False

    async def evaluate(
        self, population: Population, specs: Sequence[GroupSpec], *, first: int = 0
    ) -> list[list[Group]]:
        """See :class:`askesis.training.evolving.Evaluator`. The tasks are not sent: workers know them by the step."""
        if not self._started:
            history = tuple(self._history)
            await asyncio.gather(*(self._pool.start(place, history) for place in range(self._pool.size)))
            self._started = True
        parts = _parts(len(population.members), self._pool.size, self._grain)
        step = specs[0].step

        def play(place: int, start: int, count: int) -> Awaitable[list[list[Group]]]:
            return self._insist(place, lambda: self._pool.evaluate(place, step, start, count))

        played = await asyncio.gather(*(play(place, *part) for place, part in enumerate(parts)))
        return [mine for part in played for mine in part]

    async def told(self, scores: Scores) -> None:
        """The learner has been told ``scores``; so are the workers, which must come to the same weights.

        Raises:
            EngineError: a worker has other weights than the driver.
        """
        if not self._started:  # a population that was taken from the store
            self._history.append(scores)
            return
        expected = weights_hash(self._learner.policy.model)
        before = tuple(self._history)
        self._history.append(scores)

        async def tell(place: int) -> str:
            try:
                return await self._pool.tell(place, scores)
            except WorkerLost as lost:
                await self._replace(place, lost, before)
                return await self._insist(place, lambda: self._pool.tell(place, scores), history=before)

        for place, found in enumerate(await asyncio.gather(*map(tell, range(self._pool.size)))):
            if found != expected:
                raise EngineError(
                    "a worker's weights are not the run's",
                    where=f"worker {place}, version {self._learner.version}",
                    got=found[:12],
                    expected=expected[:12],
                    next_step="all workers need the same kind of device and the same versions of torch and askesis",
                )

    async def close(self) -> None:
        """End the workers."""
        await self._pool.close()

    async def _replace(self, place: int, lost: WorkerLost, history: Sequence[Scores]) -> None:
        logging.getLogger(__name__).warning("worker %d was lost and is replaced: %s", place, lost.cause)
        await self._pool.start(place, tuple(history))

    async def _insist(
        self, place: int, work: Callable[[], Awaitable[T]], *, history: Sequence[Scores] | None = None
    ) -> T:
        """Do ``work``, by another worker when one is lost over it."""
        for _ in range(_TRIES - 1):
            try:
                return await work()
            except WorkerLost as lost:
                await self._replace(place, lost, self._history if history is None else history)
        try:
            return await work()
        except WorkerLost as lost:
            raise EngineError(
                f"{_TRIES} workers in a row were lost over the same part of a population",
                where=f"worker {place}",
                got=lost.cause,
                next_step="look at Ray's logs for the cause, often memory; then start the same command again",
            ) from lost


def _parts(size: int, workers: int, grain: int) -> list[tuple[int, int]]:
    """First member and number of members of each worker: equal shares in whole batches, as one process makes them."""
    batches = -(-size // grain)
    bounds = [min(size, batches * place // workers * grain) for place in range(workers)] + [size]
    return [(start, stop - start) for start, stop in pairwise(bounds) if stop > start]
