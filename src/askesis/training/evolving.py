"""A step of evolution: each member of a population plays the step's tasks, and the learner is told how they did.

What a member needs to be evaluated elsewhere is its seed and scale (:class:`Candidate`); what comes back are its
sessions, of which learning uses the rewards alone. :class:`Evaluator` is the seam.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from askesis.engines.variants import VariantDecoder
from askesis.environments import World
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners.evolution import Candidate, EvolutionLearner, Population, member_scores
from askesis.metering import Activity, charging
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec, usable_members
from askesis.rollout.session import Outcome
from askesis.store import Group, Store
from askesis.training.groups import group_specs, refuse_failures
from askesis.training.pieces import make_runner
from askesis.training.sampler import Sampler

__all__ = [
    "Evaluator",
    "Evolver",
    "LocalEvaluator",
    "SideBySideEvaluator",
    "Stepped",
    "make_evaluator",
    "merge",
    "population_specs",
    "scores_of",
]


class Evaluator(Protocol):
    """Plays tasks with the members of a population."""

    async def evaluate(
        self, population: Population, specs: Sequence[GroupSpec], *, first: int = 0
    ) -> list[list[Group]]:
        """The groups of each member, one for each of ``specs``, in order. Each spec is for one session, and all members
        play it from the same seed: they are compared under the same luck. ``first`` is the number of the first member
        when these are part of a population.
        """
        ...

    async def told(self, scores: Sequence[float | None]) -> None:
        """The learner has been told these scores."""
        ...

    async def close(self) -> None:
        """Release what the evaluator holds."""
        ...


class _Local:
    """What evaluators in this process have in common."""

    def __init__(
        self,
        recipe: Recipe,
        learner: EvolutionLearner,
        sampler: Sampler,
        world: World,
        *,
        on_session: Callable[[Outcome], None] | None = None,
    ) -> None:
        self._recipe, self._learner, self._sampler, self._world = recipe, learner, sampler, world
        self._on_session = on_session

    async def told(self, scores: Sequence[float | None]) -> None:
        """Nothing to do: the learner is this process's own."""

    async def close(self) -> None:
        """Nothing to do: the sampler is somebody else's."""


class LocalEvaluator(_Local):
    """One member after the other, by the run's own engine."""

    async def evaluate(
        self, population: Population, specs: Sequence[GroupSpec], *, first: int = 0
    ) -> list[list[Group]]:
        """See :class:`Evaluator`. The policy has the weights of the centre again when this returns."""
        learner, sampler = self._learner, self._sampler
        played = []
        for number, member in enumerate(population.members, first):
            with charging(Activity.LEARNER):
                await sampler.compute(partial(learner.put_on, member))
            sampler.publish(learner.version)  # of the centre; the member's place in its group says the rest
            await sampler.deliver()
            runner = make_runner(self._recipe, learner.policy, sampler.engine, self._world)
            mine = _of_member(specs, number)
            played.append(await runner.run(mine, policy_version=learner.version, on_session=self._on_session))
        with charging(Activity.LEARNER):
            await sampler.compute(learner.restore)
        sampler.publish(learner.version)
        await sampler.deliver()
        return played


class SideBySideEvaluator(_Local):
    """Several members in one batch: each token passes through the weights of its member.

    It takes the memory of as many more models, and far less time with small ones: a batch of many members' answers
    costs little more than one of one member's.
    """

    async def evaluate(
        self, population: Population, specs: Sequence[GroupSpec], *, first: int = 0
    ) -> list[list[Group]]:
        """See :class:`Evaluator`. The policy has the weights of the centre again when this returns."""
        learner, sampler, count = self._learner, self._sampler, self._recipe.learner.evolution.side_by_side
        engine, decoder = await sampler.variants(count)
        played: list[list[Group]] = []
        for start in range(0, len(population.members), count):
            members = population.members[start : start + count]
            with charging(Activity.LEARNER):
                await sampler.compute(partial(self._load, members, decoder))
            engine.publish(learner.version)
            runner = make_runner(self._recipe, learner.policy, engine, self._world)
            mine = [
                spec
                for place in range(len(members))
                for spec in _of_member(specs, first + start + place, variant=place)
            ]
            groups = await runner.run(mine, policy_version=learner.version, on_session=self._on_session)
            played += [groups[at : at + len(specs)] for at in range(0, len(groups), len(specs))]
        return played

    def _load(self, members: Sequence[Candidate], decoder: VariantDecoder) -> None:
        for place, member in enumerate(members):
            self._learner.put_on(member)
            decoder.load(place)
        self._learner.restore()


def make_evaluator(
    recipe: Recipe,
    learner: EvolutionLearner,
    sampler: Sampler,
    world: World,
    *,
    on_session: Callable[[Outcome], None] | None = None,
) -> Evaluator:
    """The one in this process that the recipe asks for."""
    kind = SideBySideEvaluator if recipe.learner.evolution.side_by_side > 1 else LocalEvaluator
    return kind(recipe, learner, sampler, world, on_session=on_session)


def population_specs(recipe: Recipe, run_id: str, world: World, step: int, stage: int) -> list[GroupSpec]:
    """The tasks of a step, which both its populations play; the groups of the stages differ in their places."""
    width = recipe.rollout.groups_per_step
    tasks = [world.tasks.task("train", step * width + i) for i in range(width)]
    return group_specs(run_id, "train", step, tasks, 1, seed=recipe.run.seed, first_place=(stage - 1) * width)


def _of_member(specs: Sequence[GroupSpec], number: int, *, variant: int = 0) -> list[GroupSpec]:
    """The same tasks with the same seeds; the ids of sessions differ from those of other members."""
    return [replace(spec, group_id=f"{spec.group_id}.{number:03d}", variant=variant) for spec in specs]


class Stepped(NamedTuple):
    """What a training step sampled and did."""

    groups: Sequence[Group]
    """Of an evolution: one per task and population, with one member of the population in each place."""
    metrics: Mapping[str, float | None]
    sampling_s: float


class Evolver:
    """Performs the training steps of a run whose learner is an :class:`EvolutionLearner`."""

    def __init__(
        self, recipe: Recipe, run_id: str, learner: EvolutionLearner, world: World, store: Store, evaluator: Evaluator
    ) -> None:
        self._recipe, self._run_id, self._world, self._store = recipe, run_id, world, store
        self._learner, self._evaluator = learner, evaluator

    async def step(self, step: int, sampler: Sampler) -> Stepped:
        """Evaluate the step's populations, on the same tasks, and learn. What was committed is not sampled again.

        Raises:
            AlgorithmError: no task is left to compare members on.
        """
        groups: list[Group] = []
        sampling_s = 0.0
        told = None
        while told is None:
            began = time.monotonic()
            found = await self._population(step, self._learner.ask())
            sampling_s += time.monotonic() - began
            groups += found
            scores = scores_of(found, self._recipe, size=len(self._learner.ask().members))
            with charging(Activity.LEARNER):
                told = await sampler.compute(partial(self._learner.tell, scores))
            await self._evaluator.told(scores)
        sampler.publish(self._learner.version)
        await sampler.deliver()
        return Stepped(groups, told, sampling_s)

    async def _population(self, step: int, population: Population) -> list[Group]:
        """One group per task; from the store if they were committed."""
        with charging(Activity.ENVIRONMENT):
            specs = population_specs(self._recipe, self._run_id, self._world, step, population.stage)
        with charging(Activity.STORE):
            if self._store.group(specs[0].group_id) is not None:  # they are committed all or not at all
                return [self._stored(spec.group_id) for spec in specs]
        groups = merge(specs, await self._evaluator.evaluate(population, specs))
        refuse_failures(groups, "train", step, self._recipe.rollout.max_failed)
        with charging(Activity.STORE):
            self._store.append_groups(groups)
        return groups

    def _stored(self, group_id: str) -> Group:
        group = self._store.group(group_id)
        if group is None:
            raise CheckpointError("the store lacks a group of a committed step", where=group_id)
        return group


def merge(specs: Sequence[GroupSpec], played: Sequence[Sequence[Group]]) -> list[Group]:
    """From one group per member and task to one per task, named as its spec: the session of member n has index n, and
    that of a second try ``N + n``.
    """
    size = len(played)
    merged = []
    for spec, groups in zip(specs, zip(*played, strict=True), strict=True):
        members = [
            replace(member, member_index=n + size * member.member_index)
            for n, group in enumerate(groups)
            for member in group.members
        ]
        members.sort(key=lambda member: member.member_index)
        merged.append(replace(groups[0], group_id=spec.group_id, members=tuple(members)))
    return merged


def scores_of(groups: Sequence[Group], recipe: Recipe, *, size: int) -> list[float | None]:
    """Score of each of ``size`` members over the step's tasks. AlgorithmError when no task can be used."""
    policy = recipe.rollout.missing_members
    rewards: list[list[float | None]] = []
    for group in groups:
        row: list[float | None] = [None] * size
        for member in usable_members(group, policy, size=size):
            row[member.member_index % size] = member.verdict.reward
        if any(reward is not None for reward in row):
            rewards.append(row)
    if not rewards:
        raise AlgorithmError(
            "no task of this step can be used to compare the members",
            where="rollout.missing_members",
            got=policy,
            expected="a task whose sessions have verdicts",
            next_step="set rollout.missing_members=use_rest, and look at the failures with `askesis report`",
        )
    return member_scores(rewards)
