"""The training loop: sample, judge, store, learn, publish; again until done.

In synchronous training a step is a function of the recipe, the weights and the step number: every random stream is
named by them, so nothing but weights and optimiser state has to be kept. What a step sampled is committed to the store
in one transaction; a resumed run takes committed groups from the store instead of sampling them again, and so ends in
the same weights and the same store. In asynchronous training (:mod:`askesis.training.asynchronous`) groups are
committed one by one, and a resumed run repeats the steps that had consumed theirs.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from typing import Any

from askesis.environments import World
from askesis.errors import AskesisError, CheckpointError
from askesis.learners import GradientLearner, Sample
from askesis.learners.evolution import EvolutionLearner
from askesis.metering import Activity, charging
from askesis.policy.loading import save_policy, weights_hash
from askesis.recipe import Recipe, Resolved
from askesis.store import Group, RunRecord, Store
from askesis.training import checkpoint
from askesis.training.checking import Checks
from askesis.training.evaluating import evaluation_of, summarise
from askesis.training.evolving import Evaluator, Evolver, Stepped, make_evaluator
from askesis.training.groups import rollout_metrics
from askesis.training.observe.observer import Observer
from askesis.training.observe.process import this_process
from askesis.training.parts import Parts
from askesis.training.pieces import describe
from askesis.training.playing import Player, ticking
from askesis.training.progress import Phase, Progress, StepEvent
from askesis.training.records import open_records
from askesis.training.report.data import Evaluation
from askesis.training.rollouts import Rollouts, make_rollouts
from askesis.training.rundir import RunDir
from askesis.training.sampler import load_weights
from askesis.training.samples import samples_of
from askesis.training.simulation import Simulation
from askesis.training.sources import Source, make_source
from askesis.training.state_metrics import state_metrics
from askesis.training.tensorboard import open_writer

__all__ = ["TrainingResult", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How a run ended. ``before`` and ``after`` are None when evaluation is off."""

    run: str
    path: str
    before: Evaluation | None
    after: Evaluation | None
    wall_s: float
    peak_rss_mb: float


def train(
    resolved: Resolved[Recipe],
    run: RunDir,
    world: World,
    progress: Progress,
    *,
    simulation: Simulation | None = None,
) -> TrainingResult:
    """Run ``resolved`` in the claimed folder ``run`` from where it stands to its end.

    ``simulation`` lets an asynchronous run take place on virtual time.

    Raises:
        AskesisError: with the cause; the run can be resumed by the same call.
    """
    identity = run.identity()
    started = time.monotonic()
    already_s = float(run.state().get("wall_s", 0.0))
    # Nothing is written before it is known that the run can start.
    recipe = resolved.recipe
    parts = Parts.load(recipe, run.path, progress, simulation=simulation)
    # A second process stops here and changes nothing.
    with open_records(run, recipe.store.url, outage_s=recipe.store.outage_s) as store:
        try:
            run.update_state(
                status="running",
                started=run.state().get("started") or time.time(),
                store=recipe.store.url or None,
                process=this_process(),
            )
            store.add_run(
                RunRecord(
                    run_id=identity["run_id"],
                    recipe_hash=identity["recipe_hash"],
                    recipe=identity["recipe"],
                    seed=identity["seed"],
                    versions=identity["versions"],
                )
            )
            observer = Observer(recipe.observe, run, identity["run_id"], progress)
            trainer = _Trainer(recipe, run, identity, world, store, observer, parts, simulation)
            if simulation is None:
                asyncio.run(trainer.run())
            else:
                simulation.clock.run(trainer.run())
            store.set_run_status(identity["run_id"], "finished")
            store.write_head(run.heads)
        except BaseException as error:
            _note_end(run, error, already_s + time.monotonic() - started)
            raise
    wall_s = already_s + time.monotonic() - started
    peak_rss_mb = _peak_rss_mb()
    run.update_state(
        status="finished",
        finished=time.time(),
        wall_s=wall_s,
        peak_rss_mb=peak_rss_mb,
        error=None,
        step=trainer.step,
    )
    return TrainingResult(
        run=identity["run_id"],
        path=str(run.path),
        before=trainer.evaluations.get("before"),
        after=trainer.evaluations.get("after"),
        wall_s=wall_s,
        peak_rss_mb=peak_rss_mb,
    )


def _note_end(run: RunDir, error: BaseException, wall_s: float) -> None:
    """Keep how the run ended; when not even that can be written, the first error is the one that matters."""
    stopped = isinstance(error, (KeyboardInterrupt, asyncio.CancelledError))
    with suppress(AskesisError):
        run.update_state(
            status="stopped" if stopped else "failed",
            wall_s=wall_s,
            error=None if stopped else f"{type(error).__name__}: {error}",
        )


class _Trainer:
    """The pieces of a run, and the step that they perform together."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunDir,
        identity: Mapping[str, Any],
        world: World,
        store: Store,
        observer: Observer,
        parts: Parts,
        simulation: Simulation | None = None,
    ) -> None:
        self._recipe, self._run, self._world, self._store, self._observer = recipe, run, world, store, observer
        self._progress = observer.progress
        self._run_id: str = identity["run_id"]
        self._policy, self._learner, self._sampler = parts.policy, parts.learner, parts.sampler
        self._rollouts: Rollouts = make_rollouts(
            recipe,
            self._policy,
            self._sampler,
            world,
            warn=observer.warn,
            clock=None if simulation is None else simulation.clock,
        )
        self.step = 0
        self._num_sampled = 0
        state = run.state()
        self.evaluations = {label: evaluation_of(record) for label, record in state.get("evaluations", {}).items()}
        self._player = Player(recipe, self._run_id, store, self._rollouts, observer)
        self._checks = Checks(recipe, run, self._sampler, observer)
        self._source: Source | None = None
        if isinstance(self._learner, GradientLearner):
            self._source = make_source(recipe, world, store, observer, parts, self._player, self._rollouts)
        self._evaluator: Evaluator | None = None
        start = weights_hash(self._policy.model)
        if state.get("initial_weights", start) != start:
            raise CheckpointError(
                "the policy is no longer the one that the run started from",
                where=recipe.policy.name,
                got=start[:12],
                expected=state["initial_weights"][:12],
                next_step="put the model back, or start anew in another run.dir",
            )
        run.update_state(
            algorithm=describe(self._learner),
            initial_weights=start,
            kernel=self._sampler.current.capabilities.kernel,
        )
        self._writer = open_writer(run.path / "tensorboard") if recipe.training.tensorboard else None

    async def run(self) -> None:
        """From the last checkpoint, or from the start, to the final model."""
        try:
            async with self._observer.watching():
                if self._recipe.engine.kind != "embedded":
                    self._progress.stage("starting the engine")
                    with self._ticking("the servers that sample"):
                        await self._sampler.start()
                    self._run.update_state(kernel=self._sampler.current.capabilities.kernel)
                self._resume()
                await self._sampler.deliver()
                await self._evaluate("before", 0)
                async with nullcontext() if self._source is None else self._source.open(self.step):
                    while not self._is_done:
                        with self._observer.phase("step", step=self.step):
                            await self._train_step()
                        await self._after_step(self.step)
                await self._evaluate("after", self.step)
                self._progress.stage("saving the model")
                save_policy(self._policy, self._run.model)
                if isinstance(self._learner, GradientLearner) and self._learner.critic is not None:
                    self._learner.critic.save(self._run.critic)
        finally:
            if self._evaluator is not None:
                await self._evaluator.close()
            if isinstance(self._learner, GradientLearner):
                self._learner.close()
            await self._rollouts.close()
            await self._sampler.close()
            if self._writer is not None:
                self._writer.close()

    @property
    def _is_done(self) -> bool:
        limit = self._recipe.training.max_sampled_tokens
        return self.step >= self._recipe.training.steps or bool(limit and self._num_sampled >= limit)

    async def _after_step(self, done: int) -> None:
        settings, every = self._recipe.training, self._recipe.evaluation.every
        if every and done % every == 0 and not self._is_done:
            if self._source is not None:
                await self._source.settle()
            await self._evaluate(f"step {done}", done)
        if self._is_done or (settings.checkpoint_every and done % settings.checkpoint_every == 0):
            with self._observer.phase("checkpoint", Activity.CHECKPOINT):
                self._checkpoint()
            self._store.log_metrics(self._run_id, done, self._observer.seconds_between())

    def _resume(self) -> None:
        checkpoint.clean(self._run.checkpoints)
        place = checkpoint.latest(self._run.checkpoints)
        if place is None:
            return
        saved = checkpoint.load(place)
        if self._store.head().size < saved.values["store_head"]["size"]:
            raise CheckpointError(
                "the store is older than the checkpoint",
                where=str(self._run.store),
                got=f"{self._store.head().size} records",
                expected=f"at least {saved.values['store_head']['size']}",
                next_step="put back the store that belongs to this run, or start anew in another run.dir",
            )
        load_weights(self._policy, saved.weights)
        if weights_hash(self._policy.model) != saved.values["weights_hash"]:
            raise CheckpointError("the restored weights are not those that were saved", where=str(place))
        self._learner.load_state_dict(saved.optimizer, saved.values["learner"])
        self._sampler.load_state_dict(saved.sampler, saved.values["sampler"], self._learner.version)
        self.step = saved.step
        self._num_sampled = int(saved.values.get("num_sampled", 0))
        self._progress.stage(f"resuming at step {saved.step}")

    def _checkpoint(self) -> None:
        self._store.write_head(self._run.heads)
        optimizer, values = self._learner.state_dict()
        weights = {name: parameter.detach() for name, parameter in self._policy.trainable()}
        stale, sampler = self._sampler.state_dict()
        head = self._store.head()
        checkpoint.save(
            self._run.checkpoints,
            checkpoint.Checkpoint(
                step=self.step,
                weights=weights,
                optimizer=optimizer,
                values={
                    "learner": values,
                    "sampler": sampler,
                    "weights_hash": weights_hash(self._policy.model),
                    "num_sampled": self._num_sampled,
                    "store_head": asdict(head),
                },
                sampler=stale,
            ),
            keep=self._recipe.training.keep_checkpoints,
        )
        self._run.update_state(step=self.step)

    async def _train_step(self) -> None:
        began = time.monotonic()
        learner = self._learner
        if isinstance(learner, EvolutionLearner):
            groups, learned, sampled_s = await self._evolve(learner)
        else:
            groups, learned, sampled_s = await self._descend(learner)
        metrics = {**rollout_metrics(groups), **state_metrics(groups), **learned, **self._sampler.metrics}
        metrics |= self._rollouts.metrics
        with self._observer.phase("store", Activity.STORE):
            self._store.consume(self._run_id, [g.group_id for g in groups], step=self.step)
        seconds = time.monotonic() - began
        sampled = sum(m.trace.num_sampled for g in groups for m in g.members)
        metrics |= {
            "step_seconds": seconds,
            "sampling_seconds": sampled_s,
            "tokens_per_second": sampled / seconds,
            **self._observer.seconds_of_step(),
        }
        self._num_sampled += sampled
        self.step += 1
        self._record({**metrics, "sampled_tokens_total": float(self._num_sampled)})

    async def _descend(self, learner: GradientLearner) -> Stepped:
        """A step down the gradient."""
        assert self._source is not None
        began = time.monotonic()
        groups, told = await self._source.next(self.step)
        sampled_s = time.monotonic() - began
        samples = self._samples(learner, groups)
        if not samples:
            return Stepped(groups, told, sampled_s)
        async with self._source.weights_at_rest():
            await self._self_check(learner, samples)
            with self._observer.phase("learner", Activity.LEARNER), self._ticking(f"the update of step {self.step}"):
                update = await self._sampler.compute(lambda: learner.update(samples))
                self._sampler.publish(learner.version)
        with self._observer.phase("weights", Activity.LEARNER), self._ticking("the sampler to take the weights"):
            await self._source.renew()
        self._checks.watch_drift(update.metrics.get("drift"), self.step)
        return Stepped(groups, {**update.metrics, **told}, sampled_s)

    async def _evolve(self, learner: EvolutionLearner) -> Stepped:
        """A step of evolution."""
        recipe, sampler = self._recipe, self._sampler
        await self._checks.before_population(learner, self.step)
        if self._evaluator is None:
            self._evaluator = self._make_evaluator(learner)
        evolver = Evolver(recipe, self._run_id, learner, self._world, self._store, self._evaluator)
        count = recipe.rollout.groups_per_step * recipe.rollout.group_size
        awaited = f"{count} sessions of train step {self.step}"
        with self._ticking(awaited), self._observer.phase("population", sessions=count):
            return await evolver.step(self.step, sampler)

    def _make_evaluator(self, learner: EvolutionLearner) -> Evaluator:
        recipe = self._recipe
        if recipe.cluster.kind == "local":
            on_session = self._observer.on_session
            return make_evaluator(recipe, learner, self._sampler, self._world, on_session=on_session)
        from askesis.training.ray_pool import RayPool
        from askesis.training.remote import Base, RemoteEvaluator

        pool = RayPool(recipe, self._run_id, Base.of(learner))
        return RemoteEvaluator(learner, pool, side_by_side=recipe.learner.evolution.side_by_side)

    def _ticking(self, awaited: str) -> AbstractContextManager[None]:
        return ticking(self._observer, awaited)

    def _samples(self, learner: GradientLearner, groups: Sequence[Group]) -> list[Sample]:
        return samples_of(groups, self._recipe, drops_constant=learner.algorithm.resamples_constant_groups)

    async def _self_check(self, learner: GradientLearner, samples: Sequence[Sample]) -> None:
        await self._checks.before_update(learner, samples, self.step)

    async def _evaluate(self, label: str, step: int) -> None:
        settings = self._recipe.evaluation
        if not settings.num_tasks:
            return
        self._progress.stage(f"evaluating ({label})")
        with self._observer.phase("evaluation", Activity.EVALUATION, label=label):
            tasks = self._world.tasks.distinct_tasks("held_out", settings.num_tasks)
            groups = await self._player.groups("evaluation", step, tasks, settings.samples)
        result = summarise(
            groups,
            label=label,
            temperature=settings.temperature,
            pass_k=settings.pass_k,
            seed=self._recipe.run.seed,
        )
        self.evaluations[label] = result
        self._run.update_state(evaluations={name: asdict(e) for name, e in self.evaluations.items()})
        values = {} if result.accuracy is None else {"held_out_accuracy": result.accuracy}
        values |= self._observer.seconds_between()
        self._store.log_metrics(self._run_id, step, values)
        self._progress.step(
            StepEvent(step=step, steps=self._recipe.training.steps, values=values, phase=Phase.EVALUATE)
        )

    def _record(self, metrics: Mapping[str, float | None]) -> None:
        with charging(Activity.STORE):
            self._store.log_metrics(self._run_id, self.step, metrics)
        known = {name: value for name, value in metrics.items() if value is not None}
        if self._writer is not None:
            for name, value in known.items():
                self._writer.add_scalar(name, value, self.step)
        self._progress.step(StepEvent(step=self.step, steps=self._recipe.training.steps, values=known))


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
