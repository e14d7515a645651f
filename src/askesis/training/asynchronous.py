"""Asynchronous training: groups are played all the time, and a step learns from those that are complete.

A group is committed to the store the moment it is complete; its ``step`` there is the oldest version that sampled a
token of it. A training step consumes complete groups, the oldest first, in one transaction. Which groups may be begun,
and which are used, is decided in :mod:`askesis.training.schedule`; here is what happens then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np

from askesis.environments import World
from askesis.errors import AskesisError
from askesis.learners import GradientLearner
from askesis.metering import Activity, charging
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec
from askesis.store import Group, Store
from askesis.training.groups import group_specs, is_constant, refuse_failures
from askesis.training.observe.observer import Observer
from askesis.training.playing import Played, stored, ticking
from askesis.training.rollouts import Play, Rollouts
from askesis.training.sampler import Sampler
from askesis.training.schedule import Schedule, Waiting

__all__ = ["Overlapping", "make_schedule", "patience_s"]


def make_schedule(recipe: Recipe, learner: GradientLearner) -> Schedule:
    """The rules that a recipe sets."""
    section, rollout = recipe.asynchronous, recipe.rollout
    size = rollout.groups_per_step
    resamples = learner.algorithm.resamples_constant_groups
    return Schedule(
        groups_per_step=size,
        max_staleness=section.max_staleness,
        admission=section.admission,
        max_ahead=section.max_ahead or size * (section.max_staleness + 1),
        max_constant=size * rollout.max_resamples if resamples else 0,
    )


def patience_s(recipe: Recipe) -> float:
    """How long a group may take at the very most, seconds: every session of it has a deadline for each of its waits,
    and a worker elsewhere that hangs is replaced after ``cluster.timeout_s``.
    """
    rollout, agent, cluster = recipe.rollout, recipe.agent, recipe.cluster
    session_s = rollout.max_session_s + (4 + agent.calls_per_reply) * rollout.call_timeout_s
    section = recipe.asynchronous
    groups = section.max_ahead or rollout.groups_per_step * (section.max_staleness + 1)
    rounds = -(-groups * rollout.group_size // rollout.max_concurrent)
    played_s = 2 * session_s * rounds * (2 if rollout.missing_members == "retry" else 1)
    return played_s + (cluster.timeout_s if cluster.kind == "ray" else 0.0)


class Overlapping:
    """Keeps groups in play while the learner computes, and hands it the complete ones.

    Every change (a group has ended, a step has consumed, weights were taken) looks for room and fills it; nothing
    polls. All of it happens on one event loop, which is also the store's.
    """

    def __init__(
        self,
        recipe: Recipe,
        run_id: str,
        world: World,
        learner: GradientLearner,
        sampler: Sampler,
        store: Store,
        observer: Observer,
        rollouts: Rollouts,
    ) -> None:
        self._recipe, self._run_id, self._world = recipe, run_id, world
        self._learner, self._sampler, self._store, self._observer = learner, sampler, store, observer
        self._rollouts = rollouts
        self._schedule = make_schedule(recipe, learner)
        self._play: Play | None = None
        self._drains = recipe.cluster.kind == "local" and not recipe.asynchronous.partial_rollouts
        self._in_play: dict[asyncio.Task[Group], int] = {}
        self._committed: set[str] = set()
        self._next_number = 0
        self._constant: set[str] = set()
        self._latest: deque[Group] = deque(maxlen=recipe.rollout.groups_per_step)
        self._kept_back: list[Group] = []
        self._has_good = False
        self._recorded_until = 0
        self._step = 0
        self._version = learner.version
        self._is_draining = False
        self._drained: asyncio.Task[None] | None = None
        self._weights = asyncio.Lock()
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self._held_s = 0.0
        self._idle_since: float | None = None

    @asynccontextmanager
    async def open(self, step: int) -> AsyncIterator[None]:
        """Groups are in play in this block. Those that are not complete at its end are given up, and were never
        committed.
        """
        self._step, self._version = step, self._learner.version
        self._committed = set(self._store.group_ids(self._run_id))
        self._has_good = bool(self._committed)
        if self._schedule.max_constant:
            waiting = [name for name, _ in self._store.waiting(self._run_id)]
            self._constant = {name for name in waiting if is_constant(stored(self._store, name))}
        self._recorded_until = max(self._store.consumed(self._run_id).values(), default=-1) + 1
        async with self._rollouts.open(on_session=self._observer.on_session) as play:
            self._play = play
            try:
                self._fill()
                yield
            finally:
                self._play = None
                await self._give_up()
        await self._take()

    @asynccontextmanager
    async def weights_at_rest(self) -> AsyncIterator[None]:
        """In this block the weights that sample do not change, and those of the learner may."""
        async with self._weights:
            yield

    async def next(self, step: int) -> Played:
        """The groups that a step learns from, consumed by it: those that it had before a restart, or else the oldest
        complete ones, as soon as :meth:`Schedule.choose` says that it may go on.

        Raises:
            AskesisError: no session came to a verdict, or no group was completed in :func:`patience_s`.
        """
        self._step, self._version = step, self._learner.version
        self._fill()
        began = self._now()
        names = self._store.claimed(self._run_id, step=step)
        if not names:
            with ticking(self._observer, f"complete groups for step {step}"):
                names = await self._claim(step)
        waited_s = self._now() - began
        with charging(Activity.STORE):
            consumed = [stored(self._store, name) for name in names]
        groups = [g for g in consumed if not self._schedule.is_stale(g.step, self._learner.version)]
        metrics = self._metrics(groups, len(consumed), waited_s)
        self._constant -= set(names)
        self._step, self._version = step + 1, self._learner.version + 1  # what is begun now is used after this update
        self._fill()
        return Played(groups, metrics)

    async def renew(self) -> None:
        """The learner has new weights. They are taken at once; or, where sessions in this process keep the weights that
        they began with, when the last one in play has ended. Workers elsewhere have weights of their own, and begin the
        next group with the new ones.
        """
        if not self._drains or not self._in_play:
            await self._take()
        else:
            self._is_draining = True

    async def settle(self) -> None:
        """Wait until what samples has the learner's weights. For evaluations by the very servers that sample."""
        while self._is_draining and self._sampler.engine is self._sampler.current:
            await self._wait_for_news()

    async def _take(self) -> None:
        async with self._weights:
            if self._sampler.engine.version != self._learner.version:
                await self._sampler.take(self._learner.version)
        self._is_draining = False
        self._fill()

    async def _claim(self, step: int) -> list[str]:
        """Consume groups for a step, those first that are too old for it."""
        while True:
            self._raise_error()
            unfinished = [*self._in_play.values(), *(group.step for group in self._kept_back)]
            batch = self._schedule.choose(self._waiting(), unfinished, learner=self._learner.version)
            if batch is not None:
                names = [*batch.stale, *batch.used]
                with charging(Activity.STORE):
                    self._store.consume(self._run_id, names, step=step)
                return names
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        limit_s = patience_s(self._recipe)
        self._raise_error()
        self._news.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        except TimeoutError:
            raise AskesisError(
                "no group was completed for a long time",
                where=f"train, step {self._step}",
                got=f"{len(self._in_play)} groups in play, {len(self._waiting())} complete, after {limit_s:.0f} s",
                expected=f"{self._schedule.groups_per_step} complete groups for a step",
                next_step="look for sessions that hang; limits are rollout.max_session_s and rollout.call_timeout_s",
            ) from None

    def _waiting(self) -> list[Waiting]:
        with charging(Activity.STORE):
            found = self._store.waiting(self._run_id)
        return [Waiting(group_id=name, version=step, teaches=name not in self._constant) for name, step in found]

    def _fill(self) -> None:
        """Begin as many groups as there is room for."""
        self._note_idle()
        if self._play is None or self._error is not None or self._is_draining:
            return
        room = self._schedule.room(
            self._waiting(),
            len(self._in_play) + len(self._kept_back),
            learner=self._version,
            sampler=self._sampler.engine.version,
            recorded=max(self._recorded_until - self._step, 0),
            steps_left=self._recipe.training.steps - self._step,
        )
        for _ in range(room):
            self._begin(self._play, self._next_spec())
        self._note_idle()

    def _next_spec(self) -> GroupSpec:
        """The first group that has not been begun; its task and its seeds are those of the same place in a synchronous
        run.
        """
        rollout, seed = self._recipe.rollout, self._recipe.run.seed
        while True:
            number = self._next_number
            self._next_number += 1
            step, place = divmod(number, rollout.groups_per_step)
            with charging(Activity.ENVIRONMENT):
                task = self._world.tasks.task("train", number)
            (spec,) = group_specs(self._run_id, "train", step, [task], rollout.group_size, seed=seed, first_place=place)
            if spec.group_id not in self._committed:
                return spec

    def _begin(self, play: Play, spec: GroupSpec) -> None:
        version = self._sampler.engine.version
        task = asyncio.create_task(_played(play, spec, version))
        self._in_play[task] = version
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Group]) -> None:
        del self._in_play[task]
        if task.cancelled():
            return
        try:
            self._keep(task.result())
            if self._is_draining and not self._in_play and self._drained is None:
                self._drained = asyncio.create_task(self._take())
                self._drained.add_done_callback(self._have_drained)
            self._fill()
        except BaseException as error:  # it ends the run, by whoever waits for groups
            self._error = self._error or error
        self._news.set()

    def _have_drained(self, task: asyncio.Task[None]) -> None:
        self._drained = None
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        self._news.set()

    def _keep(self, group: Group) -> None:
        """Commit a complete group. Until one session has come to a verdict, groups without any are kept back: if there
        is never one, the run is broken, and nothing of it is stored.
        """
        self._has_good |= any(m.verdict.reward is not None for m in group.members)
        self._latest.append(group)
        if len(self._latest) == self._latest.maxlen:
            refuse_failures(self._latest, "train", self._step, self._recipe.rollout.max_failed)
        self._kept_back.append(group)
        if not self._has_good:
            return
        with charging(Activity.STORE):
            self._store.append_groups(self._kept_back)
        if self._schedule.max_constant:
            self._constant |= {g.group_id for g in self._kept_back if is_constant(g)}
        self._kept_back.clear()

    async def _give_up(self) -> None:
        """Cancel what is in play, and wait for it to end."""
        tasks = [*self._in_play, *([self._drained] if self._drained is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2 * self._recipe.rollout.call_timeout_s)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _note_idle(self) -> None:
        """Count the time in which no session is in play, because none may be begun."""
        now = self._now()
        if self._idle_since is not None:
            self._held_s += now - self._idle_since
        self._idle_since = None if self._in_play else now

    def _metrics(self, groups: Sequence[Group], num_consumed: int, waited_s: float) -> dict[str, float | None]:
        self._note_idle()
        held_s, self._held_s = self._held_s, 0.0
        ages = np.array([self._learner.version - group.step for group in groups])
        num_over = sum(self._schedule.is_over(group.step, self._learner.version) for group in groups)
        return {
            "staleness_mean": float(ages.mean()),
            "staleness_p50": float(np.quantile(ages, 0.5)),
            "staleness_p90": float(np.quantile(ages, 0.9)),
            "staleness_max": float(ages.max()),
            "stale_share": 1 - len(groups) / num_consumed,
            "corrected_share": num_over / len(groups),
            "groups_waiting": float(len(self._waiting())),
            "groups_in_play": float(len(self._in_play)),
            "learner_waited_seconds": waited_s,
            "sampler_held_seconds": held_s,
        }


async def _played(play: Play, spec: GroupSpec, version: int) -> Group:
    """The group, with the oldest version that sampled a token of it for its step; ``version`` if it has none."""
    group = await play(spec)
    sampled = [m.trace.oldest_version for m in group.members if m.trace.oldest_version is not None]
    return replace(group, step=min(sampled, default=version))
