"""Finding stages by name: the built-in ones, and those that installed packages offer by entry points.

Only the package of the stage that is asked for is imported, so a broken package harms nobody else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import TypeVar

from askesis.algorithms.credits import BUILT_IN_CREDITS
from askesis.algorithms.estimators import BUILT_IN_ESTIMATORS
from askesis.algorithms.modulators import BUILT_IN_MODULATORS
from askesis.algorithms.objectives import BUILT_IN_OBJECTIVES
from askesis.algorithms.shapings import BUILT_IN_SHAPINGS
from askesis.algorithms.stages import CreditStage, EstimatorStage, ModulatorStage, ObjectiveStage, ShapingStage, Stage
from askesis.errors import RecipeError, did_you_mean

__all__ = [
    "credit_names",
    "estimator_names",
    "find_credit",
    "find_estimator",
    "find_modulator",
    "find_objective",
    "find_shaping",
    "modulator_names",
    "objective_names",
    "shaping_names",
    "unknown_name",
]

_Stage = TypeVar("_Stage", ShapingStage, EstimatorStage, ModulatorStage, CreditStage, ObjectiveStage)


def shaping_names() -> list[str]:
    """All reward shapings that can be named, sorted."""
    return _names("shaping", BUILT_IN_SHAPINGS)


def estimator_names() -> list[str]:
    """All estimators that can be named, sorted."""
    return _names("estimator", BUILT_IN_ESTIMATORS)


def modulator_names() -> list[str]:
    """All turn modulators that can be named, sorted."""
    return _names("modulator", BUILT_IN_MODULATORS)


def credit_names() -> list[str]:
    """All token credits that can be named, sorted."""
    return _names("credit", BUILT_IN_CREDITS)


def objective_names() -> list[str]:
    """All objectives that can be named, sorted."""
    return _names("objective", BUILT_IN_OBJECTIVES)


def find_shaping(name: str) -> ShapingStage:
    """The reward shaping called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find("shaping", name, BUILT_IN_SHAPINGS, ShapingStage)


def find_estimator(name: str) -> EstimatorStage:
    """The estimator called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find("estimator", name, BUILT_IN_ESTIMATORS, EstimatorStage)


def find_modulator(name: str) -> ModulatorStage:
    """The modulator called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find("modulator", name, BUILT_IN_MODULATORS, ModulatorStage)


def find_credit(name: str) -> CreditStage:
    """The token credit called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find("credit", name, BUILT_IN_CREDITS, CreditStage)


def find_objective(name: str) -> ObjectiveStage:
    """The objective called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find("objective", name, BUILT_IN_OBJECTIVES, ObjectiveStage)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> RecipeError:
    """The error for a name that nothing has."""
    known = sorted(known)
    return RecipeError(
        f"there is no {kind} called {name!r}",
        where="algorithm",
        got=name,
        expected=", ".join(known),
        next_step=did_you_mean(name, known) or f"name one of the {kind}s above",
    )


def _group(kind: str) -> str:
    return f"askesis.{kind}s"


def _offered(kind: str) -> EntryPoints:
    return _installed(_group(kind), tuple(sys.path))


@lru_cache(maxsize=16)
def _installed(group: str, path: tuple[str, ...]) -> EntryPoints:
    """The entry points of all packages on ``path``. Reading them takes milliseconds, and a build asks ten times."""
    return entry_points(group=group)


def _names(kind: str, built_in: Iterable[Stage]) -> list[str]:
    return sorted({stage.name for stage in built_in} | set(_offered(kind).names))


def _find(kind: str, name: str, built_in: tuple[_Stage, ...], type_: type[_Stage]) -> _Stage:
    own = [stage for stage in built_in if stage.name == name]
    offered = list(_offered(kind).select(name=name))
    if len(own) + len(offered) > 1:
        raise RecipeError(
            f"several {kind}s are called {name!r}",
            where=f"entry points {_group(kind)}",
            got=", ".join(["askesis"] * len(own) + [_origin(point) for point in offered]),
            next_step="uninstall one of these packages, or have its author rename the stage",
        )
    if offered:
        return _load(offered[0], type_)
    if not own:
        raise unknown_name(kind, name, _names(kind, built_in))
    return own[0]


def _load(point: EntryPoint, kind: type[_Stage]) -> _Stage:
    try:
        stage = point.load()
    except Exception as error:
        raise RecipeError(
            f"the package that offers {point.name!r} cannot be imported",
            where=f"{_origin(point)}, {point.value}",
            got=f"{type(error).__name__}: {error}",
            next_step="mend or uninstall that package",
        ) from error
    if not isinstance(stage, kind) or stage.name != point.name:
        raise RecipeError(
            f"the entry point {point.name!r} is not the stage that it says",
            where=f"{_origin(point)}, {point.value}",
            got=stage,
            expected=f"an instance of {kind.__name__} with name={point.name!r}",
        )
    return stage


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
