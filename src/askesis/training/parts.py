"""What a run is made of, loaded and checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from askesis.learners import GradientLearner
from askesis.learners.evolution import EvolutionLearner
from askesis.policy.loading import Policy
from askesis.recipe import Recipe
from askesis.training.pieces import (
    check_learner,
    make_evolution,
    make_learner,
    make_remote,
    open_policy,
    set_threads,
)
from askesis.training.progress import Progress
from askesis.training.sampler import Sampler
from askesis.training.simulation import Simulation

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A policy, who changes its weights, and who samples from it."""

    policy: Policy
    learner: GradientLearner | EvolutionLearner
    sampler: Sampler

    @classmethod
    def load(cls, recipe: Recipe, folder: Path, progress: Progress, *, simulation: Simulation | None = None) -> Self:
        """Load the policy and build the learner and the sampler around it. ``folder`` is the run's."""
        check_learner(recipe)
        set_threads(recipe.run.threads)
        progress.stage("loading the policy")
        policy = open_policy(recipe.policy, seed=recipe.run.seed)
        sampler = Sampler(
            policy,
            max_batch=recipe.engine.max_batch,
            staleness=recipe.training.staleness,
            admission=recipe.engine.admission,
            kv_tokens=recipe.engine.kv_tokens,
            keeps_first=recipe.states.evaluator == "frozen",
            remote=make_remote(recipe, policy, folder / "engine"),
            # Workers of a cluster have weights of their own.
            overlaps=recipe.asynchronous.enabled and recipe.cluster.kind == "local",
            simulation=simulation,
        )
        evolves = recipe.learner.kind == "evolution"
        learner = make_evolution(recipe, policy, folder) if evolves else make_learner(recipe, policy)
        return cls(policy=policy, learner=learner, sampler=sampler)
