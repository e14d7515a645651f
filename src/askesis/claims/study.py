"""What a claim is: arms that are trained under one budget, what is measured, and what must come out.

A study trains every arm in every setting on every seed. Runs of one setting and seed share their tasks and their
random streams, so arms are compared in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from askesis.claims.reading import FinishedRun
from askesis.errors import RecipeError
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.recipe.schema import Option

__all__ = ["Arm", "Direction", "Metric", "Part", "Plan", "Role", "Scale", "Setting", "Study", "check_budgets"]

Overrides = Mapping[str, Option]

_FREE = ("algorithm.", "run.dir", "training.lr", "training.schedule", "training.warmup_steps")
"""What two arms may differ in: how they learn. Everything else is their common budget."""

_NO_CLOCK: Overrides = {"rollout.call_timeout_s": 3600.0, "rollout.max_session_s": 86400.0}
"""A busy or a sleeping machine must not change a result."""


class Role(StrEnum):
    """Why an arm is there."""

    METHOD = "method"
    """What the claim is about; one arm of a study."""
    BASELINE = "baseline"
    """What it must beat: the strongest of them counts."""
    CONTROL = "control"
    """What could explain an effect without the method."""
    VARIANT = "variant"
    """The method with other constants: shown, not judged."""


class Direction(StrEnum):
    """Where the 95 % interval of method minus rival must lie for a part of a claim to hold."""

    ABOVE = "above"
    """Above 0."""
    BELOW = "below"
    """Below 0."""
    NOT_BELOW = "not below"
    """Above minus the margin."""
    NOT_ABOVE = "not above"
    """Below the margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to learn. ``overrides`` are recipe values that win over the study's and the setting's."""

    name: str
    role: Role
    overrides: Overrides
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A condition in which all arms are compared, for example a staleness."""

    name: str
    overrides: Overrides = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number between 0 and 1. ``read`` gives one value for each held-out task, or a single one for the whole run;
    None is a value that does not exist.
    """

    name: str
    read: Callable[[FinishedRun], Sequence[float | None]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One comparison that the claim states. The first part of a study is its headline.

    Args:
        statement: in words, as a sentence.
        metric: name of the metric.
        setting: name of the setting.
        direction: where the interval of method minus rival must lie.
        against: name of the rival; None is the baseline with the highest mean.
        margin: for the two directions that allow a small difference.
    """

    statement: str
    metric: str
    setting: str
    direction: Direction = Direction.ABOVE
    against: str | None = None
    margin: float = 0.0

    @property
    def required(self) -> str:
        """Where the interval must lie, in words."""
        side = "above" if self.direction in (Direction.ABOVE, Direction.NOT_BELOW) else "below"
        limits = {Direction.NOT_BELOW: -self.margin, Direction.NOT_ABOVE: self.margin}
        return f"{side} {100 * limits.get(self.direction, 0.0):g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a study is run. ``judged`` is False where the numbers are too few to say anything."""

    overrides: Overrides
    seeds: int
    workers: int
    """Runs side by side, each in a process of its own with one thread; 0 runs them in this process."""
    judged: bool = True


class Plan(NamedTuple):
    """One run that is to be made. ``overrides`` are those of the command line."""

    setting: str
    arm: str
    seed: int
    overrides: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A claim as an experiment.

    Args:
        name: on the command line.
        title: one line.
        paper: authors, year, title, arXiv number.
        statement: what the paper claims.
        measured: what is trained and measured here, and how its constants were chosen.
        recipe: recipe values of all arms.
        arms: one METHOD, at least one BASELINE.
        settings: at least one.
        metrics: the first is the one that learning curves are shown beside.
        parts: all must hold.
        scales: by name.
    """

    name: str
    title: str
    paper: str
    statement: str
    measured: str
    recipe: Overrides
    arms: tuple[Arm, ...]
    settings: tuple[Setting, ...]
    metrics: tuple[Metric, ...]
    parts: tuple[Part, ...]
    scales: Mapping[str, Scale]

    def __post_init__(self) -> None:
        known = {
            "metric": {m.name for m in self.metrics},
            "setting": {s.name for s in self.settings},
            "against": {a.name for a in self.arms if a.role is not Role.METHOD},
        }
        named = [("metric", p.metric) for p in self.parts] + [("setting", p.setting) for p in self.parts]
        named += [("against", p.against) for p in self.parts if p.against is not None]
        bad = [f"{key}={name!r}" for key, name in named if name not in known[key]]
        names = [a.name for a in self.arms]
        roles = [a.role for a in self.arms]
        if bad or len(set(names)) < len(names) or roles.count(Role.METHOD) != 1 or Role.BASELINE not in roles:
            raise RecipeError(
                "a study does not fit together",
                where=f"claim {self.name}",
                got=", ".join(bad) or ", ".join(f"{a.name}: {a.role.value}" for a in self.arms),
                expected="distinct arms, one method, a baseline; parts that name what the study has",
            )

    @property
    def method(self) -> Arm:
        """The arm that the claim is about."""
        return next(arm for arm in self.arms if arm.role is Role.METHOD)

    def scale(self, name: str) -> Scale:
        """The scale called ``name``. RecipeError when there is none."""
        if name not in self.scales:
            raise RecipeError(
                "there is no such scale", where=f"claim {self.name}", got=name, expected=", ".join(self.scales)
            )
        return self.scales[name]

    def plans(self, scale: Scale, *, seeds: int, folder: Path) -> list[Plan]:
        """Every run of the study, seed by seed, each below ``folder``.

        Raises RecipeError when the arms do not have the same budget, or a recipe is wrong.
        """
        found = []
        for seed in range(seeds):
            for setting in self.settings:
                resolved = {arm.name: self._resolve(arm, setting, scale, seed) for arm in self.arms}
                recipes = {name: values for name, (_, values) in resolved.items()}
                check_budgets(recipes, where=f"claim {self.name}, setting {setting.name}")
                for arm in self.arms:
                    overrides, values = resolved[arm.name]
                    # The hash keeps a changed recipe from meeting the run of the old one.
                    name = f"{setting.name}-{arm.name}-{seed}-{values.hash[:6]}".replace(" ", "_")
                    path = folder / name
                    found.append(Plan(setting.name, arm.name, seed, (*overrides, f"run.dir={path}"), path))
        return found

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


def check_budgets(arms: Mapping[str, Resolved[Recipe]], *, where: str) -> None:
    """Raise RecipeError unless the recipes of all arms are alike in all that is not how they learn."""
    first, *others = arms
    reference = dict(_budget(arms[first]))
    for name in others:
        own = dict(_budget(arms[name]))
        differing = sorted(key for key in reference.keys() | own.keys() if reference.get(key) != own.get(key))
        if differing:
            raise RecipeError(
                "two arms of a claim do not have the same budget",
                where=where,
                got=", ".join(f"{key}: {first} {reference.get(key)!r}, {name} {own.get(key)!r}" for key in differing),
                expected="arms that differ only in " + ", ".join(f"{key}*" for key in _FREE),
                next_step="move the value to the study's recipe or to a setting",
            )


def _budget(resolved: Resolved[Recipe]) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in resolved.values.items() if not key.startswith(_FREE))
