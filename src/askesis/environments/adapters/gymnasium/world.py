"""The world ``gymnasium``: any registered Gymnasium environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from askesis.environments.adapters.environment import GameEnvironment
from askesis.environments.adapters.game import Game
from askesis.environments.adapters.gymnasium.codec import check_draws, describe_action
from askesis.environments.adapters.gymnasium.game import GymnasiumGame
from askesis.environments.adapters.options import Options
from askesis.environments.adapters.requiring import require
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.protocol import World
from askesis.errors import RecipeError, did_you_mean
from askesis.gateway.session import Session

__all__ = ["gymnasium_world", "make"]

ENVIRONMENT = "gymnasium"
_SHOW = ("observation", "ansi")


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A registered environment; see :func:`askesis.environments.make_world`.

    Args:
        family: its id, for example ``FrozenLake-v1``.
        level: not used.
        options: ``actions``, names of the actions of a Discrete space, in order; ``show``, ``observation`` or ``ansi``;
            ``retries`` (2), how often an illegal act is asked for again; ``penalty`` (0.0), paid when that was in vain;
            ``solved_at``, the return from which a task counts as solved (by default the environment's own threshold).
            All others are passed to ``gymnasium.make``, for example ``is_slippery`` or ``max_episode_steps``.
        seed: root of the stream of tasks.
        instruction: system message; None names the legal actions.
    """
    gymnasium = require("gymnasium", extra="gymnasium", purpose="the environment 'gymnasium'")
    taken = Options(ENVIRONMENT, options)
    names = taken.texts("actions")
    show = taken.take("show", str, "observation")
    if show not in _SHOW:
        raise taken.wrong("show", show, " or ".join(_SHOW))
    retries, penalty = taken.take("retries", int, 2), taken.take("penalty", float, 0.0)
    spec = _spec(gymnasium, family)
    solved_at = taken.take("solved_at", float, spec.reward_threshold) if "solved_at" in options else None
    arguments = taken.rest()
    if show == "ansi":
        bare = _made(gymnasium, family, arguments)  # Gymnasium only warns of a mode that is not there
        try:
            check_draws(bare, show)
        finally:
            bare.close()
        arguments = {**arguments, "render_mode": "ansi"}
    return gymnasium_world(
        lambda: _made(gymnasium, family, arguments),
        family=family,
        seed=seed,
        instruction=instruction,
        names=names,
        show=show,
        retries=retries,
        penalty=penalty,
        solved_at=spec.reward_threshold if solved_at is None else solved_at,
    )


def gymnasium_world(
    make_env: Callable[[], Any],
    *,
    family: str,
    seed: int = 0,
    instruction: str | None = None,
    names: Sequence[str] = (),
    show: str = "observation",
    retries: int = 2,
    penalty: float = 0.0,
    solved_at: float | None = None,
) -> World:
    """A world of the environments that ``make_env`` makes, a fresh one for each session; the arguments are those of
    the recipe. One is made at once, to see that it can be, and what its actions are.
    """
    probe = make_env()
    try:
        space = probe.action_space
    finally:
        probe.close()
    if names and len(names) != getattr(space, "n", None):
        raise RecipeError(
            "there is another number of names than of actions",
            where="environment.options.actions",
            got=list(names),
            expected=f"one name for each action of {space}",
        )
    if instruction is None:
        instruction = f"Act by writing inside <answer> and </answer> {describe_action(space, names)}."

    def game(session: Session) -> Game:
        return GymnasiumGame(make_env(), seed=session.task.payload["seed"], names=names, show=show)

    gymnasium = require("gymnasium", extra="gymnasium", purpose="the environment 'gymnasium'")
    return World(
        name=ENVIRONMENT,
        environment=GameEnvironment(game, instruction=instruction, retries=retries, penalty=penalty),
        evaluator=ReturnEvaluator(f"gymnasium/{gymnasium.__version__} {family}", solved_at=solved_at),
        tasks=SeedTasks(environment=ENVIRONMENT, family=family, seed=seed),
    )


def _spec(gymnasium: Any, family: str) -> Any:
    try:
        return gymnasium.spec(family)
    except gymnasium.error.Error as error:
        raise RecipeError(
            f"Gymnasium has no environment called {family!r}",
            where="environment.family",
            got=str(error),
            next_step=did_you_mean(family, gymnasium.registry) or "import the package that registers it first",
        ) from error


def _made(gymnasium: Any, family: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return gymnasium.make(family, **arguments)
    except (gymnasium.error.Error, TypeError, ImportError, AssertionError, ValueError) as error:
        raise RecipeError(
            f"Gymnasium cannot make {family!r}",
            where="environment.options",
            got=f"{type(error).__name__}: {error}",
            expected="actions, show, retries, penalty, solved_at, and what the environment takes",
        ) from error
