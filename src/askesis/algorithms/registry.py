"""Finding stages by name: the built-in ones, and those that installed packages offer by entry points.

Only the package of the stage that is asked for is imported, so a broken package harms nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from askesis.algorithms.estimators import BUILT_IN_ESTIMATORS
from askesis.algorithms.objectives import BUILT_IN_OBJECTIVES
from askesis.algorithms.stages import EstimatorStage, ObjectiveStage
from askesis.errors import RecipeError, did_you_mean

__all__ = ["estimator_names", "find_estimator", "find_objective", "objective_names", "unknown_name"]

_ESTIMATORS = "askesis.estimators"
_OBJECTIVES = "askesis.objectives"

_Stage = TypeVar("_Stage", EstimatorStage, ObjectiveStage)


def estimator_names() -> list[str]:
    """All estimators that can be named, sorted."""
    return _names(BUILT_IN_ESTIMATORS, _ESTIMATORS)


def objective_names() -> list[str]:
    """All objectives that can be named, sorted."""
    return _names(BUILT_IN_OBJECTIVES, _OBJECTIVES)


def find_estimator(name: str) -> EstimatorStage:
    """The estimator called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find(name, BUILT_IN_ESTIMATORS, _ESTIMATORS, EstimatorStage)


def find_objective(name: str) -> ObjectiveStage:
    """The objective called ``name``; RecipeError when there is none, or two, or its package is broken."""
    return _find(name, BUILT_IN_OBJECTIVES, _OBJECTIVES, ObjectiveStage)


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


def _names(built_in: Iterable[EstimatorStage | ObjectiveStage], group: str) -> list[str]:
    return sorted({stage.name for stage in built_in} | set(entry_points(group=group).names))


def _find(name: str, built_in: tuple[_Stage, ...], group: str, kind: type[_Stage]) -> _Stage:
    own = [stage for stage in built_in if stage.name == name]
    offered = list(entry_points(group=group, name=name))
    if len(own) + len(offered) > 1:
        raise RecipeError(
            f"several {group.removeprefix('askesis.')} are called {name!r}",
            where=f"entry points {group}",
            got=", ".join(["askesis"] * len(own) + [_origin(point) for point in offered]),
            next_step="uninstall one of these packages, or have its author rename the stage",
        )
    if offered:
        return _load(offered[0], kind)
    if not own:
        raise unknown_name(group.removeprefix("askesis.").removesuffix("s"), name, _names(built_in, group))
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
