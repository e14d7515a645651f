"""A PettingZoo environment in which all agents act at once (Parallel), as a game."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askesis.environments.adapters.game import Beat
from askesis.environments.adapters.gymnasium.codec import plain_rendering
from askesis.environments.adapters.pettingzoo.moves import RandomMover, legal_moves, parse_move, seen_text
from askesis.trace.types import StopReason

__all__ = ["TogetherGame"]


class TogetherGame:
    """The joint action is applied once, when all seats have acted; the agents that no policy plays act with them.

    The arguments are those of :class:`.turns.TurnGame`, with a Parallel environment.
    """

    def __init__(self, env: Any, *, seed: int, seats: Mapping[str, str], move: RandomMover, show: str) -> None:
        self._env, self._seed, self._seats, self._move, self._show = env, seed, seats, move, show
        self._agents = {seat: agent for agent, seat in seats.items()}
        self._legal: dict[str, list[int] | None] = {}

    def begin(self) -> Beat:
        """Reset."""
        observations, infos = self._env.reset(seed=self._seed)
        return Beat(seen=self._seen(observations, infos))

    def parse(self, seat: str, text: str) -> Any:
        """A legal action of the seat's agent."""
        agent = self._agents[seat]
        return parse_move(self._env.action_space(agent), text, self._legal[agent])

    def play(self, actions: Mapping[str, Any]) -> Beat:
        """One step of all agents that live."""
        joint = {
            agent: actions[self._seats[agent]]
            if agent in self._seats
            else self._move(self._env.action_space(agent), self._legal.get(agent))
            for agent in self._env.agents
        }
        observations, rewards, terminated, truncated, infos = self._env.step(joint)
        paid = {seat: rewards[agent] for agent, seat in self._seats.items() if agent in rewards}
        seen = self._seen(observations, infos, gone={a for a in joint if terminated.get(a) or truncated.get(a)})
        if seen:
            return Beat(seen=seen, paid=paid)
        was_cut = any(truncated.get(agent) and not terminated.get(agent) for agent in self._seats)
        if was_cut:
            return Beat(seen={}, paid=paid, stop=StopReason.ENVIRONMENT_LIMIT, reason="truncated")
        return Beat(seen={}, paid=paid, stop=StopReason.TERMINATED)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _seen(
        self, observations: Mapping[str, Any], infos: Mapping[str, Any], gone: frozenset[str] | set[str] = frozenset()
    ) -> dict[str, str]:
        living = [agent for agent in self._env.agents if agent not in gone]
        self._legal = {agent: legal_moves(observations[agent], infos.get(agent)) for agent in living}
        drawn = plain_rendering(self._env.render()) if self._show == "ansi" else None
        return {
            self._seats[agent]: seen_text(observations[agent], self._legal[agent], drawn)
            for agent in living
            if agent in self._seats
        }
