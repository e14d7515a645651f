"""Simultaneous games: agents that leave early."""

from __future__ import annotations

from typing import Any

import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `pettingzoo` is not installed")
pettingzoo = pytest.importorskip("pettingzoo", reason="the extra `pettingzoo` is not installed")

from askesis.environments.adapters.game import IllegalAct  # noqa: E402
from askesis.environments.adapters.pettingzoo.moves import RandomMover  # noqa: E402
from askesis.environments.adapters.pettingzoo.together import TogetherGame  # noqa: E402
from askesis.trace.types import StopReason  # noqa: E402


class Leaving(pettingzoo.ParallelEnv):
    """``a`` leaves after the first step, ``b`` after the second; each is paid the step's number."""

    metadata = {"name": "leaving", "render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(9)

    def action_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, int], dict[str, Any]]:
        self.agents, self.steps = ["a", "b"], 0
        return {"a": 0, "b": 0}, {"a": {"action_mask": [0, 1]}, "b": {}}

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        self.steps += 1
        acted = list(self.agents)
        assert sorted(actions) == sorted(acted)
        gone = "ab"[self.steps - 1]
        self.agents = [agent for agent in acted if agent != gone]
        by_agent = {agent: agent == gone for agent in acted}
        return (
            dict.fromkeys(acted, self.steps),
            dict.fromkeys(acted, float(self.steps)),
            by_agent,
            dict.fromkeys(acted, False),
            {agent: {} for agent in acted},
        )


def game(seats: dict[str, str]) -> TogetherGame:
    return TogetherGame(Leaving(), seed=0, seats=seats, move=RandomMover(0), show="observation")


def test_who_has_left_is_not_asked_again() -> None:
    played = game({"a": "a", "b": "b"})
    assert played.begin().seen == {"a": "0\nlegal: 1", "b": "0"}
    second = played.play({"a": 1, "b": 0})
    assert (second.seen, second.paid) == ({"b": "1"}, {"a": 1.0, "b": 1.0})
    last = played.play({"b": 0})
    assert (last.seen, last.paid, last.stop) == ({}, {"b": 2.0}, StopReason.TERMINATED)


def test_the_episode_is_over_when_no_policy_is_left() -> None:
    played = game({"a": "agent"})
    played.begin()
    last = played.play({"agent": 1})
    assert (last.paid, last.stop) == ({"agent": 1.0}, StopReason.TERMINATED)


def test_a_mask_in_the_info_is_kept() -> None:
    played = game({"a": "agent"})
    played.begin()
    assert played.parse("agent", "1") == 1
    with pytest.raises(IllegalAct, match="write one of: 1"):
        played.parse("agent", "0")
