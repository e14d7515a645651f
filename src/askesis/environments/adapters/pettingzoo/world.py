"""The world ``pettingzoo``: environments for several agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from askesis.environments.adapters.environment import GameEnvironment
from askesis.environments.adapters.game import Game
from askesis.environments.adapters.gymnasium.codec import check_draws, describe_action
from askesis.environments.adapters.options import Options
from askesis.environments.adapters.pettingzoo.moves import RandomMover
from askesis.environments.adapters.pettingzoo.together import TogetherGame
from askesis.environments.adapters.pettingzoo.turns import TurnGame
from askesis.environments.adapters.requiring import require
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.protocol import SEAT, World
from askesis.errors import RecipeError, did_you_mean
from askesis.gateway.session import Session

__all__ = ["make", "pettingzoo_world"]

ENVIRONMENT = "pettingzoo"
_PURPOSE = "the environment 'pettingzoo'"
_KINDS = {"turns": "aec", "together": "parallel"}
_ALL = ("*",)


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """An environment of PettingZoo; see :func:`askesis.environments.make_world`.

    Args:
        family: its id in the registry of PettingZoo, for example ``classic/rps-v2``.
        level: not used.
        options: ``mode``, ``turns`` (one agent after the other) or ``together``; ``seats``, the agents that the policy
            plays, by default the first alone, ``["*"]`` all of them; the others draw legal actions at random;
            ``show``, ``observation`` or ``ansi``; ``retries``, ``penalty`` and ``solved_at`` as in the world gymnasium.
            All others are passed to the environment.
        seed: root of the stream of tasks.
        instruction: system message; None names the legal actions.
    """
    pettingzoo = require("pettingzoo", extra="pettingzoo", purpose=_PURPOSE)
    taken = Options(ENVIRONMENT, options)
    mode, show = taken.take("mode", str, "turns"), taken.take("show", str, "observation")
    for name, value, known in (("mode", mode, tuple(_KINDS)), ("show", show, ("observation", "ansi"))):
        if value not in known:
            raise taken.wrong(name, value, " or ".join(known))
    seats = taken.texts("seats")
    retries, penalty = taken.take("retries", int, 2), taken.take("penalty", float, 0.0)
    solved_at = taken.take("solved_at", float, 0.0) if "solved_at" in options else None
    arguments = taken.rest()
    if show == "ansi":
        arguments = {"render_mode": "ansi", **arguments}
    kind = _KINDS[mode]
    _check_id(pettingzoo.aec_registry if kind == "aec" else pettingzoo.parallel_registry, family, mode)
    return pettingzoo_world(
        lambda: _made(pettingzoo, kind, family, arguments),
        family=family,
        together=mode == "together",
        seats=seats,
        seed=seed,
        instruction=instruction,
        show=show,
        retries=retries,
        penalty=penalty,
        solved_at=solved_at,
    )


def pettingzoo_world(
    make_env: Callable[[], Any],
    *,
    family: str,
    together: bool = False,
    seats: Sequence[str] = (),
    seed: int = 0,
    instruction: str | None = None,
    show: str = "observation",
    retries: int = 2,
    penalty: float = 0.0,
    solved_at: float | None = None,
) -> World:
    """A world of the AEC environments (``together``: Parallel ones) that ``make_env`` makes, one for each session."""
    pettingzoo = require("pettingzoo", extra="pettingzoo", purpose=_PURPOSE)
    probe = make_env()
    try:
        check_draws(probe, show)
        agents = list(probe.possible_agents)
        space = probe.action_space(agents[0])
    finally:
        probe.close()
    played = tuple(agents) if tuple(seats) == _ALL else tuple(seats) or (agents[0],)
    if unknown := sorted(set(played) - set(agents)):
        raise RecipeError(
            "there are no such agents",
            where="environment.options.seats",
            got=unknown,
            expected=", ".join(agents),
        )
    names = {agent: SEAT if len(played) == 1 else agent for agent in played}
    if instruction is None:
        instruction = f"Act by writing inside <answer> and </answer> {describe_action(space)}."

    def game(session: Session) -> Game:
        form = TogetherGame if together else TurnGame
        return form(
            make_env(),
            seed=session.task.payload["seed"],
            seats=names,
            move=RandomMover(session.task.payload["seed"]),
            show=show,
        )

    return World(
        name=ENVIRONMENT,
        environment=GameEnvironment(game, instruction=instruction, retries=retries, penalty=penalty),
        evaluator=ReturnEvaluator(f"pettingzoo/{pettingzoo.__version__} {family}", solved_at=solved_at),
        tasks=SeedTasks(environment=ENVIRONMENT, family=family, seed=seed),
    )


def _check_id(registry: Mapping[str, Any], family: str, mode: str) -> None:
    if family not in registry:
        raise RecipeError(
            f"PettingZoo has no environment called {family!r} in the mode {mode}",
            where="environment.family",
            got=family,
            expected="group/name-vN, for example classic/rps-v2",
            next_step=did_you_mean(family, registry),
        )


def _made(pettingzoo: Any, kind: str, family: str, arguments: Mapping[str, Any]) -> Any:
    failed = require("pettingzoo.env_registry.exceptions", extra="pettingzoo", purpose=_PURPOSE).FailedToImport
    try:
        return pettingzoo.make(kind, family, **arguments)
    except failed as error:
        raise RecipeError(
            f"a library of PettingZoo's {family} is not installed",
            where="environment.family",
            got=str(error.__cause__ or error),
            next_step=f"pip install 'pettingzoo[{family.partition('/')[0]}]'",
        ) from error
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise RecipeError(
            f"PettingZoo cannot make {family}",
            where="environment.options",
            got=f"{type(error).__name__}: {error}",
            expected="mode, seats, show, retries, penalty, solved_at, and what the environment takes",
        ) from error
