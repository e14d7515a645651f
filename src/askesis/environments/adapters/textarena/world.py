"""The world ``textarena``: text games for one or several players."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askesis.environments.adapters.dice import Dice
from askesis.environments.adapters.environment import GameEnvironment
from askesis.environments.adapters.game import Game
from askesis.environments.adapters.options import Options
from askesis.environments.adapters.requiring import require
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.adapters.textarena.game import ArenaGame
from askesis.environments.protocol import SEAT, World
from askesis.errors import RecipeError, did_you_mean
from askesis.gateway.session import Session
from askesis.streams import generator

__all__ = ["make"]

ENVIRONMENT = "textarena"
_RAW = "-raw"


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A game of TextArena; see :func:`askesis.environments.make_world`.

    Args:
        family: its id, for example ``GuessTheNumber-v0``.
        level: not used.
        options: ``players`` (1); ``opponent``, a list of replies of which the players after the first say one, drawn
            anew at each of their turns; without it the policy plays all of them; ``solved_at`` (1.0), the reward from
            which a game counts as solved. All others are passed to the game.
        seed: root of the stream of tasks.
        instruction: system message; None: none, the games explain themselves.
    """
    registration = require("textarena.envs.registration", extra="textarena", purpose="the environment 'textarena'")
    textarena = require("textarena", extra="textarena", purpose="the environment 'textarena'")
    taken = Options(ENVIRONMENT, options)
    players = taken.take("players", int, 1)
    if players < 1:
        raise taken.wrong("players", players, "1 or more")
    replies = taken.texts("opponent")
    solved_at = taken.take("solved_at", float, 1.0)
    arguments = taken.rest()
    name = _raw_id(registration.ENV_REGISTRY, family)
    played = range(1) if replies else range(players)
    seats = {player: SEAT if len(played) == 1 else f"player {player}" for player in played}

    def game(session: Session) -> Game:
        number = session.task.payload["seed"]
        return ArenaGame(
            textarena.make(name, **arguments),
            seed=number,
            players=players,
            seats=seats,
            replies=replies,
            rng=generator(number, ENVIRONMENT, "opponent"),
        )

    _probe(textarena, name, arguments, players)
    return World(
        name=ENVIRONMENT,
        environment=GameEnvironment(game, instruction=instruction or ""),
        evaluator=ReturnEvaluator(f"textarena/{textarena.__version__} {family}", solved_at=solved_at),
        tasks=SeedTasks(environment=ENVIRONMENT, family=family, seed=seed),
    )


def _raw_id(registry: Mapping[str, Any], family: str) -> str:
    """The form of the game that says nothing twice: the other ones repeat the whole history at each turn."""
    raw = family if family.endswith(_RAW) else f"{family}{_RAW}"
    if raw in registry:
        return raw
    known = sorted(name.removesuffix(_RAW) for name in registry if name.endswith(_RAW))
    raise RecipeError(
        f"TextArena has no game called {family!r}",
        where="environment.family",
        got=family,
        next_step=did_you_mean(family, known) or f"for example {known[0] if known else 'GuessTheNumber-v0'}",
    )


def _probe(textarena: Any, name: str, arguments: Mapping[str, Any], players: int) -> None:
    """Make and begin one game, so that wrong options are known before a run starts."""
    try:
        with Dice(0).rolling():
            textarena.make(name, **arguments).reset(num_players=players, seed=0)
    except Exception as error:  # whatever a game raises about its options, its players or files that it lacks
        raise RecipeError(
            f"TextArena cannot begin {name.removesuffix(_RAW)!r}",
            where="environment.options",
            got=f"{type(error).__name__}: {error}",
            expected="players, opponent, solved_at, and what the game takes",
        ) from error
