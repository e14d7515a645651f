"""What can be checked of a run before a model is loaded: in well under a second, without torch."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import NamedTuple

from askesis.environments import World, make_world
from askesis.errors import RecipeError
from askesis.policy.folder import resolve_name
from askesis.recipe import Recipe, Resolved
from askesis.streams import seed_of
from askesis.training.rundir import RunDir, default_run_dir

__all__ = ["Prepared", "prepare", "versions"]

_PACKAGES = ("askesis", "torch", "transformers", "tokenizers", "numpy", "reasoning_gym")


class Prepared(NamedTuple):
    """A claimed folder and the world that the run acts in."""

    run: RunDir
    world: World


def prepare(resolved: Resolved[Recipe], world: World | None = None) -> Prepared:
    """Check names, folders and space, build the world, and claim the run's folder.

    Args:
        resolved: the recipe.
        world: one that no recipe can name, in place of the recipe's; ``environment.name`` must be its name, so that
            the run's record says where it was trained.

    Raises:
        RecipeError: a family, option or recipe that does not fit.
        PolicyError: a model folder that cannot be used.
        AskesisError: no space, or no permission, or an endpoint that needs a token.
        MissingExtra: a package that the recipe needs is not installed.
    """
    recipe = resolved.recipe
    resolve_name(recipe.policy.name)
    if recipe.observe.metrics_port:
        from askesis.training.observe.endpoint import check_endpoint

        check_endpoint(recipe.observe.metrics_host, recipe.observe.metrics_port)
    if recipe.observe.traces:
        from askesis.training.observe.spans import require_spans

        require_spans()
    run = RunDir(default_run_dir(resolved))
    found = versions() | {"threads": str(recipe.run.threads or os.cpu_count())}
    run.check(resolved, found)  # cheap refusals first: building the world may import its library
    world = open_world(recipe) if world is None else _named(recipe, world)
    _require_answer_mode(recipe, world)
    run.claim(resolved, found)
    return Prepared(run, world)


def _named(recipe: Recipe, world: World) -> World:
    if recipe.environment.name != world.name:
        raise RecipeError(
            "the recipe is for another world than the one that was given",
            where="environment.name",
            got=recipe.environment.name,
            expected=world.name,
        )
    return world


def open_world(recipe: Recipe) -> World:
    """The world of a recipe; its tasks depend on ``run.seed``."""
    section = recipe.environment
    return make_world(
        section.name,
        family=section.family,
        level=section.level,
        options=section.options,
        seed=seed_of(recipe.run.seed, "tasks"),
        instruction=section.instruction,
    )


def _require_answer_mode(recipe: Recipe, world: World) -> None:
    if recipe.states.evaluator != "none" and (world.answer_mode is None or world.program is not None):
        raise RecipeError(
            f"the states of the world {world.name!r} cannot be scored",
            where="states.evaluator",
            got=recipe.states.evaluator,
            expected="a world with an answer mode, played by a harness: search, with options.reward em or f1 and "
            "options.answer tag",
            next_step="set states.evaluator=none, or choose such a world",
        )


def versions() -> dict[str, str]:
    """Versions of what a result depends on, read from package metadata."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
