"""Our worlds as Gymnasium environments."""

from __future__ import annotations

from typing import Any

from askesis.environments.adapters.blocking import LoopThread
from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.requiring import require
from askesis.environments.protocol import Done, Turn, World
from askesis.errors import EnvironmentFault
from askesis.trace.types import StopReason

__all__ = ["as_gymnasium"]

MAX_TEXT = 100_000
"""Characters of an observation or an action."""


def as_gymnasium(world: World, *, split: str = "train") -> Any:
    """A ``gymnasium.Env`` over a world for one seat.

    Observations and actions are texts; ``reset(seed=n)`` plays task ``n`` of ``split``, without a seed the next one.
    The reward is the verdict's, all of it at the end. A verdict that is not ok raises EnvironmentFault: it is no reward
    of zero. ``info`` holds the verdict's ``completed`` at the end. Tools are not offered.
    """
    gymnasium: Any = require("gymnasium", extra="gymnasium", purpose="a Gymnasium environment")

    class TextSpace(gymnasium.spaces.Text):  # type: ignore[misc]
        """Any text: Gymnasium's own space only knows the characters it was given."""

        def contains(self, x: Any) -> bool:
            return isinstance(x, str) and len(x) <= MAX_TEXT

    class TextEnv(_Player, gymnasium.Env):  # type: ignore[misc]
        metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (the name and form are Gymnasium's)
        observation_space = TextSpace(MAX_TEXT, min_length=0)
        action_space = TextSpace(MAX_TEXT, min_length=0)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[str, dict[str, Any]]:
            super().reset(seed=seed)
            return self.begin(seed), {}

    return TextEnv(world, split)


class _Player:
    def __init__(self, world: World, split: str) -> None:
        self._world, self._split = world, split
        # One each: an environment over a world over an environment waits for itself otherwise.
        self._loop = LoopThread("askesis-gymnasium")
        self._next = 0
        self._episode: Episode | None = None
        self._seat = ""

    def begin(self, number: int | None) -> str:
        self._leave()
        self._next = self._next if number is None else number
        self._episode = Episode(self._world, self._world.tasks.task(self._split, self._next), seed=self._next)
        self._next += 1
        return self._seen(self._loop.run(self._episode.begin()))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self._episode is None:
            raise EnvironmentFault("a step before the first reset", next_step="call reset() first")
        outcome = self._loop.run(self._episode.act({self._seat: action}))
        if not isinstance(outcome, Done):
            return self._seen(outcome), 0.0, False, False, {}
        verdict = self._loop.run(self._episode.judge())
        if verdict.reward is None:
            raise EnvironmentFault(
                "the episode has no reward",
                where=verdict.evaluator,
                got=verdict.error.message if verdict.error else verdict.status.value,
                next_step="leave this episode out; None is not 0",
            )
        terminated = outcome.stop is StopReason.TERMINATED
        info = {"completed": verdict.completed, "reason": outcome.reason}
        return "", verdict.reward, terminated, not terminated, info

    def close(self) -> None:
        self._leave()
        self._loop.stop()

    def _leave(self) -> None:
        episode, self._episode = self._episode, None
        if episode is not None:
            self._loop.run(episode.close())

    def _seen(self, turn: Turn) -> str:
        if len(turn.seats) != 1:
            raise EnvironmentFault("Gymnasium plays worlds for one seat", got=sorted(turn.seats))
        ((self._seat, messages),) = turn.seats.items()
        return "\n\n".join(message.content for message in messages)[:MAX_TEXT]
