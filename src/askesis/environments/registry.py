"""Finding worlds by name: the built-in ones, and those that installed packages offer under ``askesis.environments``.

An entry point names a factory, called as ``factory(family=, level=, options=, seed=, instruction=) -> World``.
Only the package of the world that is asked for is imported, so a broken package harms nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from askesis.environments.protocol import World
from askesis.errors import AskesisError, RecipeError, did_you_mean

__all__ = ["ENTRY_POINTS", "WorldFactory", "make_world", "world_names"]

ENTRY_POINTS = "askesis.environments"

_BUILT_IN = {
    "gymnasium": "askesis.environments.adapters.gymnasium.world:make",
    "mcp": "askesis.environments.adapters.mcp.world:make",
    "openenv": "askesis.environments.adapters.openenv.world:make",
    "pettingzoo": "askesis.environments.adapters.pettingzoo.world:make",
    "program": "askesis.environments.program.world:make",
    "quiz": "askesis.environments.quiz.world:make",
    "reasoning": "askesis.environments.reasoning.world:make",
    "search": "askesis.environments.search.world:make",
    "textarena": "askesis.environments.adapters.textarena.world:make",
}


class WorldFactory(Protocol):
    """What an entry point must name. Wrong arguments raise RecipeError."""

    def __call__(
        self, *, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None
    ) -> World: ...


def world_names() -> list[str]:
    """All worlds that can be named, sorted."""
    return sorted(set(_BUILT_IN) | set(entry_points(group=ENTRY_POINTS).names))


def make_world(
    name: str,
    *,
    family: str,
    level: str = "default",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    instruction: str | None = None,
) -> World:
    """Build the world called ``name``.

    Args:
        name: a built-in world, or one of an installed package.
        family: kind of task within the world.
        level: difficulty; ``default`` is the world's own, ``nano`` the one that the built-in policy was trained at.
        options: options of the family; they override the level's.
        seed: root of the stream of tasks.
        instruction: system message; None is the world's default, empty means none.

    Raises RecipeError for an unknown name, family or option, and for a package that cannot be used.
    """
    factory, origin = _find(name)
    try:
        world = factory(family=family, level=level, options=dict(options or {}), seed=seed, instruction=instruction)
    except AskesisError:
        raise
    except Exception as error:
        raise _broken(name, origin, f"{type(error).__name__}: {error}") from error
    if not isinstance(world, World):
        raise _broken(name, origin, f"its factory returned {world!r}, not a World")
    return world


def _find(name: str) -> tuple[WorldFactory, str]:
    offered = list(entry_points(group=ENTRY_POINTS, name=name))
    owners = ["askesis"] * (name in _BUILT_IN) + [_origin(point) for point in offered]
    if len(owners) > 1:
        raise RecipeError(
            f"several environments are called {name!r}",
            where="environment.name",
            got=", ".join(owners),
            next_step="uninstall one of these packages, or have its author rename the environment",
        )
    if offered:
        return _load(offered[0]), owners[0]
    if name not in _BUILT_IN:
        known = world_names()
        raise RecipeError(
            f"there is no environment called {name!r}",
            where="environment.name",
            got=name,
            expected=", ".join(known),
            next_step=did_you_mean(name, known)
            or "name one of the environments above, or install the package that has it",
        )
    module, attribute = _BUILT_IN[name].split(":")
    return cast("WorldFactory", getattr(import_module(module), attribute)), "askesis"


def _load(point: EntryPoint) -> WorldFactory:
    try:
        factory = point.load()
    except Exception as error:
        raise _broken(point.name, f"{_origin(point)}, {point.value}", f"{type(error).__name__}: {error}") from error
    if not callable(factory):
        raise _broken(
            point.name, f"{_origin(point)}, {point.value}", f"the entry point names {factory!r}, not a factory"
        )
    return cast("WorldFactory", factory)


def _broken(name: str, origin: str, got: str) -> RecipeError:
    return RecipeError(
        f"the package that offers the environment {name!r} is broken",
        where=origin,
        got=got,
        next_step="mend or uninstall that package",
    )


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown package"
