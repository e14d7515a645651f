"""What every claim is, whether its arms are training runs or other trials: arms, what is measured, what must come out.

A claim tries every arm in every setting on every seed. All arms of one setting and seed meet the same tasks and the
same random streams, so arms are compared in pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from askesis.claims.reading import FinishedRun
from askesis.errors import RecipeError
from askesis.recipe.schema import Option

__all__ = [
    "SHARE",
    "Arm",
    "Claim",
    "CurveLabel",
    "Direction",
    "Metric",
    "Overrides",
    "Part",
    "Plan",
    "Role",
    "Scale",
    "Setting",
    "Trial",
    "number",
]

Overrides = Mapping[str, Option]

SHARE = "%"
"""The unit of values that lie in 0..1 and are shown as percent."""


def number(value: float, unit: str, *, sign: str = "") -> str:
    """A value for people: shares as percent with one decimal, everything else with three digits."""
    return f"{100 * value:{sign}.1f}" if unit == SHARE else f"{value:{sign}.3g}"


class Role(StrEnum):
    """Why an arm is there."""

    METHOD = "method"
    """What the claim is about; one arm of a claim."""
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
    """One way to do it. ``overrides`` win over the claim's, the setting's and the scale's values."""

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
    """A number for each held-out item, or a single one for the whole trial.

    Args:
        name: also the key in :attr:`Trial.metrics` of an experiment.
        read: how a study reads it from a training run; None is a value that does not exist. Experiments have none.
        note: in words.
        unit: :data:`SHARE` for values in 0..1; anything else (also nothing) is shown as a plain number.
        lower_is_better: decides which baseline is the strongest, and the default direction of a part.
    """

    name: str
    read: Callable[[FinishedRun], Sequence[float | None]] | None = None
    note: str = ""
    unit: str = SHARE
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One comparison that the claim states. The first part of a claim is its headline.

    Args:
        statement: in words, as a sentence.
        metric: name of the metric.
        setting: name of the setting.
        direction: where the interval of method minus rival must lie; None is the metric's better side of 0.
        against: name of the rival; None is the baseline with the best mean.
        margin: for the two directions that allow a small difference.
    """

    statement: str
    metric: str
    setting: str
    direction: Direction | None = None
    against: str | None = None
    margin: float = 0.0

    def side(self, metric: Metric) -> Direction:
        """The direction, resolved."""
        return self.direction or (Direction.BELOW if metric.lower_is_better else Direction.ABOVE)

    def required(self, metric: Metric) -> str:
        """Where the interval must lie, in words."""
        direction = self.side(metric)
        side = "above" if direction in (Direction.ABOVE, Direction.NOT_BELOW) else "below"
        limit = {Direction.NOT_BELOW: -self.margin, Direction.NOT_ABOVE: self.margin}.get(direction, 0.0)
        return f"{side} {100 * limit if metric.unit == SHARE else limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a claim is tried. ``judged`` is False where the numbers are too few to say anything."""

    overrides: Overrides
    seeds: int
    workers: int
    """Trials side by side, each in a process of its own with one thread; 0 makes them in this process."""
    judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLabel:
    """What the progress curve of a trial shows.

    Args:
        name: of the value.
        unit: see :class:`Metric`.
        x: what it goes over.
        window: points of the moving mean that is drawn.
    """

    name: str
    unit: str = SHARE
    x: str = "step"
    window: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one trial (setting, arm, seed) gives.

    Args:
        metrics: per metric one value for each item, or a single one; None is a value that does not exist.
        curve: progress, as (place, value).
        cost: in the claim's ``cost_name``.
    """

    metrics: Mapping[str, Sequence[float | None]]
    curve: Sequence[tuple[int, float | None]] = ()
    cost: float = 0.0


class Plan(NamedTuple):
    """One trial that is to be made. ``path`` is where it is kept."""

    setting: str
    arm: str
    seed: int
    overrides: tuple[str, ...]
    """What makes it: those of the command line for a training run, ``key=value`` for the options of a trial."""
    path: Path
    task: Any = None
    """Picklable: what an experiment needs beside, or what is called with a finished training run. None: nothing."""
    batch: str = ""
    """Plans of one batch are made one after the other in one process; empty: alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(ABC):
    """A paper's claim, as it is checked here.

    Args:
        name: on the command line.
        title: one line.
        paper: authors, year, title, arXiv number.
        statement: what the paper claims.
        measured: what is tried and measured here, and how its constants were chosen.
        arms: one METHOD, at least one BASELINE.
        settings: at least one.
        metrics: the first is the one that is drawn first.
        parts: all must hold.
        scales: by name.
        cost_name: what a trial costs, in words; empty: no cost is shown.
        curve: what its progress curve shows; None: there is none.
    """

    name: str
    title: str
    paper: str
    statement: str
    measured: str
    arms: tuple[Arm, ...]
    settings: tuple[Setting, ...]
    metrics: tuple[Metric, ...]
    parts: tuple[Part, ...]
    scales: Mapping[str, Scale]
    cost_name: str = ""
    curve: CurveLabel | None = None

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
                "a claim does not fit together",
                where=f"claim {self.name}",
                got=", ".join(bad) or ", ".join(f"{a.name}: {a.role.value}" for a in self.arms),
                expected="distinct arms, one method, a baseline; parts that name what the claim has",
            )

    @property
    def method(self) -> Arm:
        """The arm that the claim is about."""
        return next(arm for arm in self.arms if arm.role is Role.METHOD)

    @property
    @abstractmethod
    def constants(self) -> Overrides:
        """Values that all arms share."""

    def metric(self, name: str) -> Metric:
        """The metric called ``name``."""
        return next(metric for metric in self.metrics if metric.name == name)

    def scale(self, name: str) -> Scale:
        """The scale called ``name``. RecipeError when there is none."""
        if name not in self.scales:
            raise RecipeError(
                "there is no such scale", where=f"claim {self.name}", got=name, expected=", ".join(self.scales)
            )
        return self.scales[name]

    @abstractmethod
    def plans(self, scale: Scale, *, seeds: int, folder: Path) -> list[Plan]:
        """Every trial of the claim, seed by seed, each below ``folder``. RecipeError when it cannot be planned."""

    @abstractmethod
    def trial(self, finished: Any) -> Trial:
        """What a finished trial of this kind of claim gives."""
