"""When a run checks itself, and what becomes of the results."""

from __future__ import annotations

from collections.abc import Sequence

from askesis.errors import SelfCheckError
from askesis.learners import GradientLearner, Sample
from askesis.learners.evolution import EvolutionLearner
from askesis.metering import Activity
from askesis.recipe import Recipe
from askesis.training import selfcheck
from askesis.training.observe.observer import Observer
from askesis.training.playing import ticking
from askesis.training.rundir import RunDir
from askesis.training.sampler import Sampler

__all__ = ["Checks"]


class Checks:
    """A run's checks of itself."""

    def __init__(self, recipe: Recipe, run: RunDir, sampler: Sampler, observer: Observer) -> None:
        self._recipe, self._run, self._sampler, self._observer = recipe, run, sampler, observer
        self._checked = False

    def is_due(self, step: int) -> bool:
        """At the first step that this process learns from, and then as often as the recipe says."""
        every = self._recipe.training.self_check_every
        return not self._checked or bool(every and step % every == 0)

    async def before_update(self, learner: GradientLearner, samples: Sequence[Sample], step: int) -> None:
        """Check, if that is due, and if what samples has the learner's weights. Raises SelfCheckError."""
        is_stale = self._sampler.engine.version != learner.version  # then there is nothing to compare
        if is_stale or not self.is_due(step):
            return
        max_drift = self._recipe.training.max_drift
        with self._observer.phase("checks", Activity.CHECKS), ticking(self._observer, "the self-check"):
            results = await self._sampler.compute(
                lambda: selfcheck.run_checks(self._sampler.engine, learner, samples, max_drift=max_drift)
            )
        self._keep(results, step)

    async def before_population(self, learner: EvolutionLearner, step: int) -> None:
        """Check, if that is due. Raises SelfCheckError."""
        if not self.is_due(step):
            return
        sampler = self._sampler
        with self._observer.phase("checks", Activity.CHECKS):
            results = await sampler.compute(lambda: selfcheck.run_evolution_checks(sampler.engine, learner))
        self._keep(results, step)

    def _keep(self, results: Sequence[selfcheck.CheckResult], step: int) -> None:
        """Write down what was checked. Raises SelfCheckError for a check that failed."""
        self._checked = True
        checks = [{"name": r.name, "passed": r.passed, "detail": f"step {step}: {r.detail}"} for r in results]
        self._run.update_state(self_checks=checks)
        selfcheck.require(results, step=step)

    def watch_drift(self, drift: float | None, step: int) -> None:
        """Raises SelfCheckError when learner and engine disagree about the same weights."""
        limit = self._recipe.training.max_drift
        if drift is not None and drift > limit:
            raise SelfCheckError(
                "the learner's log-probabilities have drifted from the engine's at the same weights",
                where=f"step {step}",
                got=f"mean gap {drift:.2e} nats",
                expected=f"at most training.max_drift={limit:.0e}",
                next_step="compare policy.dtype and the attention kernels of engine and learner",
            )
