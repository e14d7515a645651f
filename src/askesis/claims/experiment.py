"""A claim whose trials are no training runs: a function is called for each setting, arm and seed.

A finished trial is kept as JSON in the claim's folder, under a name that holds the hash of all that it depends on, so
an interrupted claim goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from askesis.claims.claim import (
    Arm,
    Claim,
    CurveLabel,
    Direction,
    Metric,
    Overrides,
    Part,
    Plan,
    Role,
    Scale,
    Setting,
    Trial,
)
from askesis.claims.code import code_digest
from askesis.errors import RecipeError
from askesis.evaluation import MetricError
from askesis.recipe.schema import Option
from askesis.trace.types import canonical_json
from askesis.training.rundir import write_json

__all__ = [
    "Arm",
    "CurveLabel",
    "Direction",
    "Experiment",
    "FinishedTrial",
    "Metric",
    "Part",
    "Role",
    "Scale",
    "Setting",
    "Trial",
    "TrialTask",
    "make_trial",
]

RunTrial = Callable[[str, str, int, Mapping[str, Option]], Trial]


class TrialTask(NamedTuple):
    """What a trial needs beside its place: the function, and what must come out of it."""

    run: RunTrial
    options: dict[str, Option]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrial:
    """A trial that has ended. ``wall_s`` is what it took when it was made."""

    setting: str
    arm: str
    seed: int
    wall_s: float
    trial: Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment(Claim):
    """A claim whose trials are calls of a function.

    Args:
        run: ``run(setting, arm, seed, options)``, a function of a module (worker processes import it). ``options`` are
            the setting's, the scale's and the arm's overrides; later ones win. It draws only from streams of ``seed``.
        version: of ``run``; another one makes all trials anew.
        shared: all trials of a seed are made one after the other in one process, setting by setting, so that a cache
            of ``run`` can keep what they share.
    """

    run: RunTrial
    version: int = 1
    shared: bool = False

    def __post_init__(self) -> None:
        Claim.__post_init__(self)
        reading = [metric.name for metric in self.metrics if metric.read is not None]
        if reading:
            raise RecipeError(
                "a metric of an experiment reads a training run",
                where=f"claim {self.name}",
                got=", ".join(reading),
                expected="metrics without `read`: an experiment's trials have their values",
            )

    @property
    def constants(self) -> Overrides:
        """The version of the experiment."""
        return {"version": self.version}

    def plans(self, scale: Scale, *, seeds: int, folder: Path) -> list[Plan]:
        """Every trial of the experiment."""
        found = []
        for seed in range(seeds):
            for setting in self.settings:
                for arm in self.arms:
                    options = {**setting.overrides, **scale.overrides, **arm.overrides}
                    task = TrialTask(self.run, options, tuple(metric.name for metric in self.metrics))
                    keyed = (self.name, self.version, options, task.metrics, code_digest())
                    digest = hashlib.sha256(canonical_json(keyed)).hexdigest()
                    name = f"{setting.name}-{arm.name}-{seed}-{digest[:6]}".replace(" ", "_")
                    batch = str(seed) if self.shared else ""
                    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in options.items())
                    path = folder / f"{name}.json"
                    found.append(Plan(setting.name, arm.name, seed, overrides, path, task, batch))
        return found

    def trial(self, finished: FinishedTrial) -> Trial:
        """What the trial gave."""
        return finished.trial


def make_trial(plan: Plan) -> FinishedTrial:
    """Read the trial of ``plan`` from its file, or make it and write it.

    Raises MetricError when it does not give the experiment's metrics, or a value that is not finite.
    """
    task: TrialTask = plan.task
    if plan.path.exists():
        kept = json.loads(plan.path.read_text(encoding="utf-8"))
    else:
        started = time.monotonic()
        trial = task.run(plan.setting, plan.arm, plan.seed, task.options)
        kept = _as_json(trial, task, where=f"{plan.setting}, {plan.arm}, seed {plan.seed}")
        kept["wall_s"] = time.monotonic() - started
        plan.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(plan.path, kept)
    trial = Trial(
        metrics=kept["metrics"], curve=[(place, value) for place, value in kept["curve"]], cost=float(kept["cost"])
    )
    return FinishedTrial(setting=plan.setting, arm=plan.arm, seed=plan.seed, wall_s=float(kept["wall_s"]), trial=trial)


def _as_json(trial: Trial, task: TrialTask, *, where: str) -> dict[str, Any]:
    metrics = {name: [_number(value) for value in values] for name, values in trial.metrics.items()}
    values = [value for found in metrics.values() for value in found] + [value for _, value in trial.curve]
    broken = sum(value is not None and not math.isfinite(value) for value in [*values, trial.cost])
    if set(metrics) != set(task.metrics) or broken:
        raise MetricError(
            "a trial does not give what its experiment measures",
            where=where,
            got=f"{', '.join(sorted(metrics))}; {broken} values that are not finite",
            expected=", ".join(sorted(task.metrics)) + "; finite values, None for one that does not exist",
        )
    return {
        "options": task.options,
        "metrics": metrics,
        "curve": [[int(place), _number(value)] for place, value in trial.curve],
        "cost": float(trial.cost),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
