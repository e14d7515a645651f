"""A claim whose trials are training runs: arms that are trained under one budget."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from askesis.claims.reading import FinishedRun
from askesis.errors import RecipeError
from askesis.recipe import Recipe, Resolved, load_recipe

__all__ = [
    "Arm",
    "Direction",
    "Metric",
    "Overrides",
    "Part",
    "Plan",
    "Role",
    "Scale",
    "Setting",
    "Study",
    "check_budgets",
]

_FREE = ("algorithm.", "learner.", "run.dir", "training.lr", "training.schedule", "training.warmup_steps")
"""What two arms may differ in: how they learn. Everything else is their common budget."""

_NO_CLOCK: Overrides = {"rollout.call_timeout_s": 3600.0, "rollout.max_session_s": 86400.0}
"""A busy or a sleeping machine must not change a result."""

_CURVE = "accuracy"
"""The metric of the training steps that is drawn."""
_CURVE_LABEL = CurveLabel(name="training accuracy", window=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study(Claim):
    """A claim whose trials are training runs.

    Args:
        recipe: recipe values of all arms.
        free: keys in which arms may differ beside how they learn, because the claim is about them; a key that ends
            with a dot stands for its section.
        measure: a function of a module that is called with each finished run, in the process that made it, so that
            what takes long is measured side by side; it keeps what it finds beside the run.
    """

    recipe: Overrides
    free: tuple[str, ...] = ()
    measure: Callable[[FinishedRun], None] | None = None
    cost_name: str = "tokens trained on"
    curve: CurveLabel | None = _CURVE_LABEL

    @property
    def constants(self) -> Overrides:
        """The recipe values of all arms."""
        return self.recipe

    def plans(self, scale: Scale, *, seeds: int, folder: Path) -> list[Plan]:
        """Every run of the study. RecipeError when the arms do not have the same budget, or a recipe is wrong."""
        found = []
        for seed in range(seeds):
            for setting in self.settings:
                resolved = {arm.name: self._resolve(arm, setting, scale, seed) for arm in self.arms}
                recipes = {name: values for name, (_, values) in resolved.items()}
                where = f"claim {self.name}, setting {setting.name}"
                check_budgets(recipes, where=where, free=(*_FREE, *self.free))
                for arm in self.arms:
                    overrides, values = resolved[arm.name]
                    # The hash keeps a changed recipe, or changed code, from meeting the run of the old one.
                    digest = hashlib.sha256((values.hash + code_digest()).encode()).hexdigest()
                    name = f"{setting.name}-{arm.name}-{seed}-{digest[:6]}".replace(" ", "_")
                    path = folder / name
                    found.append(
                        Plan(setting.name, arm.name, seed, (*overrides, f"run.dir={path}"), path, self.measure)
                    )
        return found

    def trial(self, finished: FinishedRun) -> Trial:
        """The study's metrics of a run, its training accuracy and its tokens."""
        return Trial(
            metrics={metric.name: metric.read(finished) for metric in self.metrics if metric.read is not None},
            curve=finished.series[_CURVE],
            cost=finished.num_trained,
        )

    def _resolve(self, arm: Arm, setting: Setting, scale: Scale, seed: int) -> tuple[tuple[str, ...], Resolved[Recipe]]:
        merged = {
            **_NO_CLOCK,
            **self.recipe,
            **setting.overrides,
            **scale.overrides,
            **arm.overrides,
            "run.seed": seed,
            "run.threads": 1,
        }
        overrides = tuple(f"{key}={json.dumps(value)}" for key, value in merged.items())
        return overrides, load_recipe(None, overrides)


def check_budgets(arms: Mapping[str, Resolved[Recipe]], *, where: str, free: tuple[str, ...] = _FREE) -> None:
    """Raise RecipeError unless the recipes of all arms are alike in all keys that do not begin like one of ``free``."""
    first, *others = arms
    reference = dict(_budget(arms[first], free))
    for name in others:
        own = dict(_budget(arms[name], free))
        differing = sorted(key for key in reference.keys() | own.keys() if reference.get(key) != own.get(key))
        if differing:
            raise RecipeError(
                "two arms of a claim do not have the same budget",
                where=where,
                got=", ".join(f"{key}: {first} {reference.get(key)!r}, {name} {own.get(key)!r}" for key in differing),
                expected="arms that differ only in " + ", ".join(f"{key}*" for key in free),
                next_step="move the value to the study's recipe or to a setting",
            )


def _budget(resolved: Resolved[Recipe], free: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in resolved.values.items() if not key.startswith(free))
