"""One Gymnasium environment as a game of one seat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from askesis.environments.adapters.game import Beat
from askesis.environments.adapters.gymnasium.codec import observation_text, parse_action, plain_rendering
from askesis.environments.protocol import SEAT
from askesis.trace.types import StopReason

__all__ = ["GymnasiumGame"]


class GymnasiumGame:
    """Steps ``env``, which must be this session's alone.

    Args:
        env: a ``gymnasium.Env``.
        seed: given to its reset.
        names: of its actions.
        show: ``observation``, or ``ansi`` for what it draws as text.
    """

    def __init__(self, env: Any, *, seed: int, names: Sequence[str] = (), show: str = "observation") -> None:
        self._env, self._seed, self._names, self._show = env, seed, names, show

    def begin(self) -> Beat:
        """The first observation."""
        observation, _info = self._env.reset(seed=self._seed)
        return Beat(seen={SEAT: self._text(observation)})

    def parse(self, seat: str, text: str) -> Any:
        """An element of the action space."""
        return parse_action(self._env.action_space, text, self._names)

    def play(self, actions: Mapping[str, Any]) -> Beat:
        """One step. An episode that is both terminated and truncated is terminated: nothing follows."""
        observation, reward, terminated, truncated, info = self._env.step(actions[SEAT])
        paid = {SEAT: reward}
        if terminated:
            return Beat(seen={}, paid=paid, stop=StopReason.TERMINATED, info=info)
        if truncated:
            return Beat(seen={}, paid=paid, stop=StopReason.ENVIRONMENT_LIMIT, reason="truncated", info=info)
        return Beat(seen={SEAT: self._text(observation)}, paid=paid)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _text(self, observation: Any) -> str:
        if self._show == "observation":
            return observation_text(observation)
        return plain_rendering(self._env.render())
