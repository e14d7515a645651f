"""Turn-based games: pending rewards, dead agents, the ends of single agents."""

from __future__ import annotations

from typing import Any

import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `pettingzoo` is not installed")
pettingzoo = pytest.importorskip("pettingzoo", reason="the extra `pettingzoo` is not installed")

from askesis.environments.adapters.pettingzoo.moves import RandomMover  # noqa: E402
from askesis.environments.adapters.pettingzoo.turns import TurnGame  # noqa: E402
from askesis.trace.types import StopReason  # noqa: E402


class Duel(pettingzoo.AECEnv):
    """``b`` pays ``a`` two points when it acts; ``a``'s second act kills ``a``, ``b``'s second act ends the game."""

    metadata = {"name": "duel", "render_modes": []}  # noqa: RUF012

    def __init__(self, *, truncates: bool = False) -> None:
        self.possible_agents = ["a", "b"]
        self.truncates = truncates

    def observation_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(9)

    def action_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(2)

    def observe(self, agent: str) -> int:
        return self.acts[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents = ["a", "b"]
        self.acts = {"a": 0, "b": 0}
        self.rewards = {"a": 0.0, "b": 0.0}
        self._cumulative_rewards = {"a": 0.0, "b": 0.0}
        self.terminations, self.truncations = {"a": False, "b": False}, {"a": False, "b": False}
        self.infos: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
        self.agent_selection = "a"

    def step(self, action: int | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self.acts[agent] += 1
        self._cumulative_rewards[agent] = 0.0
        self.rewards = {"a": 2.0 if agent == "b" else 0.0, "b": 0.0}
        if self.acts[agent] == 2:
            (self.truncations if self.truncates else self.terminations)[agent] = True
        self._accumulate_rewards()
        self.agent_selection = "b" if agent == "a" else "a"


def game(seats: dict[str, str], **options: Any) -> TurnGame:
    return TurnGame(Duel(**options), seed=0, seats=seats, move=RandomMover(0), show="observation")


def test_what_was_paid_while_others_acted_is_paid_at_the_next_turn() -> None:
    played = game({"a": "agent"})
    first = played.begin()
    assert (first.seen, first.paid) == ({"agent": "0"}, {})
    second = played.play({"agent": 0})
    assert (second.seen, second.paid) == ({"agent": "1"}, {"agent": 2.0})
    last = played.play({"agent": 0})
    assert (last.seen, last.paid, last.stop) == ({}, {"agent": 2.0}, StopReason.TERMINATED)


def test_the_dead_are_stepped_out_while_the_others_play_on() -> None:
    played = game({"a": "a", "b": "b"})
    beat = played.begin()
    order, total = [], {"a": 0.0, "b": 0.0}
    while beat.stop is None:
        (seat,) = beat.seen
        order.append(seat)
        beat = played.play({seat: 0})
        for paid_seat, paid in beat.paid.items():
            total[paid_seat] += paid
    assert order == ["a", "b", "a", "b"]
    assert total == {"a": 4.0, "b": 0.0}


def test_a_truncated_agent_was_cut() -> None:
    played = game({"a": "agent"}, truncates=True)
    played.begin()
    played.play({"agent": 0})
    last = played.play({"agent": 0})
    assert (last.stop, last.reason) == (StopReason.ENVIRONMENT_LIMIT, "truncated")


def test_the_second_agent_can_be_the_policy() -> None:
    played = game({"b": "agent"})
    assert played.begin().seen == {"agent": "0"}
