"""A PettingZoo environment in which agents act one after the other (AEC), as a game."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from askesis.environments.adapters.game import Beat
from askesis.environments.adapters.gymnasium.codec import plain_rendering
from askesis.environments.adapters.pettingzoo.moves import RandomMover, legal_moves, parse_move, seen_text
from askesis.trace.types import StopReason

__all__ = ["TurnGame"]


class TurnGame:
    """Agents that no policy plays are moved in between, dead ones are stepped out; the policies never see either.

    Args:
        env: an AEC environment, this session's alone.
        seed: given to its reset.
        seats: what each agent is called that a policy plays, by its name.
        move: plays the others.
        show: ``observation``, or ``ansi`` for what the environment draws as text.
    """

    def __init__(self, env: Any, *, seed: int, seats: Mapping[str, str], move: RandomMover, show: str) -> None:
        self._env, self._seed, self._seats, self._move, self._show = env, seed, seats, move, show
        self._paid: dict[str, float] = {}
        self._legal: list[int] | None = None
        self._was_cut = False

    def begin(self) -> Beat:
        """Reset, and play until a policy must act."""
        self._env.reset(seed=self._seed)
        beat = self._until_asked()
        return beat if any(beat.paid.values()) else replace(beat, paid={})  # nobody has acted yet

    def parse(self, seat: str, text: str) -> Any:
        """A legal action of the agent whose turn it is."""
        return parse_move(self._env.action_space(self._env.agent_selection), text, self._legal)

    def play(self, actions: Mapping[str, Any]) -> Beat:
        """Act, and play until a policy must act again."""
        ((_, action),) = actions.items()
        self._env.step(action)
        return self._until_asked()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _until_asked(self) -> Beat:
        while self._env.agents:
            agent = self._env.agent_selection
            observation, reward, terminated, truncated, info = self._env.last()
            seat = self._seats.get(agent)
            if seat is not None:  # all that it was paid since it last acted, and no more than once
                self._paid[seat] = self._paid.get(seat, 0.0) + float(reward)
            if terminated or truncated:
                self._was_cut |= seat is not None and truncated and not terminated
                self._env.step(None)
                if seat is not None and not self._alive():
                    break
                continue
            legal = legal_moves(observation, info)
            if seat is not None:
                self._legal = legal
                drawn = plain_rendering(self._env.render()) if self._show == "ansi" else None
                return Beat(seen={seat: seen_text(observation, legal, drawn)}, paid=self._spent())
            self._env.step(self._move(self._env.action_space(agent), legal))
        stop = StopReason.ENVIRONMENT_LIMIT if self._was_cut else StopReason.TERMINATED
        return Beat(seen={}, paid=self._spent(), stop=stop, reason="truncated" if self._was_cut else "")

    def _alive(self) -> bool:
        """Is an agent left that a policy plays?"""
        return any(agent in self._seats for agent in self._env.agents)

    def _spent(self) -> dict[str, float]:
        paid, self._paid = self._paid, {}
        return paid
