"""One TextArena game, for as many players as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from askesis.environments.adapters.game import Beat
from askesis.errors import EnvironmentFault
from askesis.trace.types import StopReason

__all__ = ["ArenaGame"]

_PATIENCE = 1000  # replies of fixed opponents in a row after which the game is taken to wait for something else


class ArenaGame:
    """A game whose observations are lists of messages (the ``-raw`` forms of TextArena: nothing is said twice).

    TextArena pays only at the end, and does not tell a turn limit of its own from any other end: all are terminated.

    Args:
        env: the game, this session's alone.
        seed: given to its reset.
        players: how many.
        seats: what each player is called whom a policy plays, by number.
        replies: what the others say: one of these, drawn anew each time.
        rng: draws them.
    """

    def __init__(
        self,
        env: Any,
        *,
        seed: int,
        players: int,
        seats: Mapping[int, str],
        replies: Sequence[str],
        rng: np.random.Generator,
    ) -> None:
        self._env, self._seed, self._players, self._seats = env, seed, players, seats
        self._replies, self._rng = replies, rng

    def begin(self) -> Beat:
        """Reset, and play until a policy must speak."""
        self._env.reset(num_players=self._players, seed=self._seed)
        return replace(self._until_asked(), paid={})  # nobody has acted yet

    def parse(self, seat: str, text: str) -> str:
        """The text itself: the game has its own rules for what it does not understand."""
        return text.encode("utf-8", "replace").decode()

    def play(self, actions: Mapping[str, Any]) -> Beat:
        """Speak, and play until a policy must speak again."""
        ((_, text),) = actions.items()
        is_over, _info = self._env.step(text)
        return self._end() if is_over else self._until_asked()

    def close(self) -> None:
        """Nothing: a game holds nothing outside itself."""

    def _until_asked(self) -> Beat:
        for _ in range(_PATIENCE):
            player, heard = self._env.get_observation()
            if player in self._seats:
                return Beat(seen={self._seats[player]: self._text(player, heard)}, paid=self._nothing())
            is_over, _info = self._env.step(self._replies[int(self._rng.integers(len(self._replies)))])
            if is_over:
                return self._end()
        raise EnvironmentFault(
            "the fixed opponents do not bring the game on",
            got=f"{_PATIENCE} replies in a row",
            next_step="give environment.options.opponent replies that the game understands",
        )

    def _text(self, player: int, heard: Sequence[tuple[int, str, Any]]) -> str:
        """Who said what. What the player said itself is in its own history."""
        lines = []
        for sender, text, kind in heard:
            if kind.name == "PLAYER_ACTION" and sender == player:
                continue
            lines.append(f"[Player {sender}] {text}" if sender >= 0 else text)
        return "\n".join(lines) or "Your turn."

    def _end(self) -> Beat:
        rewards, info = self._env.close()
        paid = {seat: (rewards or {}).get(player, 0.0) for player, seat in self._seats.items()}
        own = info.get(min(self._seats), {})
        return Beat(
            seen={},
            paid=paid,
            stop=StopReason.TERMINATED,
            reason=str(own.get("reason") or ""),
            info={"invalid_move": bool(own.get("invalid_move", False)), "game_turns": int(own.get("turn_count", 0))},
        )

    def _nothing(self) -> dict[str, float]:
        return dict.fromkeys(self._seats.values(), 0.0)
