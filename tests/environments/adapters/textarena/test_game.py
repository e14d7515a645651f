"""One game of TextArena; a tiny one here that shows what is asked and answered."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import pytest

from askesis.environments.adapters.textarena.game import ArenaGame
from askesis.errors import EnvironmentFault
from askesis.streams import generator
from askesis.trace.types import StopReason


class Kind(Enum):
    PROMPT = auto()
    PLAYER_ACTION = auto()
    GAME_MESSAGE = auto()


class Chat:
    """Players speak in turn and hear each other; after ``turns`` of them player 0 wins. No turns: it never moves on."""

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns
        self.said: list[str] = []

    def reset(self, num_players: int, seed: int) -> None:
        self.players, self.current = num_players, 0
        self.heard: dict[int, list[Any]] = {p: [(-1, f"You are {p}.", Kind.PROMPT)] for p in range(num_players)}

    def get_observation(self) -> tuple[int, list[Any]]:
        heard, self.heard[self.current] = self.heard[self.current], []
        return self.current, heard

    def step(self, action: str) -> tuple[bool, dict[str, Any]]:
        self.said.append(action)
        for player in range(self.players):
            self.heard[player].append((self.current, action, Kind.PLAYER_ACTION))
        if self.turns:
            self.current = (self.current + 1) % self.players
        return bool(self.turns) and len(self.said) == self.turns, {}

    def close(self) -> tuple[dict[int, int], dict[int, dict[str, Any]]]:
        return {0: 1, 1: -1}, {0: {"reason": "won", "invalid_move": False, "turn_count": 2}}


def game(chat: Chat, seats: dict[int, str], replies: tuple[str, ...] = ()) -> ArenaGame:
    return ArenaGame(chat, seed=0, players=2, seats=seats, replies=replies, rng=generator(0, "x"))


def test_each_player_hears_the_others_and_not_itself() -> None:
    played = game(Chat(), {0: "p0", 1: "p1"})
    assert played.begin().seen == {"p0": "You are 0."}
    assert played.play({"p0": "hi"}).seen == {"p1": "You are 1.\n[Player 0] hi"}
    assert played.play({"p1": "yo"}).seen == {"p0": "[Player 1] yo"}
    last = played.play({"p0": "bye"})
    assert (last.stop, last.paid, last.reason) == (StopReason.TERMINATED, {"p0": 1, "p1": -1}, "won")
    assert last.info == {"invalid_move": False, "game_turns": 2}


def test_fixed_opponents_say_one_of_their_replies() -> None:
    chat = Chat(turns=4)
    played = game(chat, {0: "agent"}, ("[a]", "[b]"))
    assert played.begin().paid == {}
    played.play({"agent": "x"})
    assert played.play({"agent": "y"}).paid == {"agent": 1}
    assert chat.said[0::2] == ["x", "y"] and set(chat.said[1::2]) <= {"[a]", "[b]"}


def test_opponents_who_do_not_bring_the_game_on_are_a_fault() -> None:
    chat = Chat(turns=0)
    played = game(chat, {1: "agent"}, ("nothing",))
    with pytest.raises(EnvironmentFault, match="do not bring the game on"):
        played.begin()


def test_what_cannot_be_written_is_replaced() -> None:
    assert game(Chat(), {0: "agent"}).parse("agent", "\ud800[3]") == "?[3]"
