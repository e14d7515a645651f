"""An environment over any foreign game: sessions, private randomness, acts that are asked for again, rewards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from askesis.environments.adapters.dice import Dice
from askesis.environments.adapters.game import Beat, Game, GameMaker, IllegalAct
from askesis.environments.adapters.returns import payment
from askesis.environments.adapters.texts import act_text, shown
from askesis.environments.protocol import Capabilities, Done, ToolResult, Turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Message, StopReason, ToolCall, ToolSpec

__all__ = ["GameEnvironment"]

T = TypeVar("T")


@dataclass
class _Play:
    game: Game
    dice: Dice
    waiting: tuple[str, ...] = ()
    actions: dict[str, Any] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    greeted: set[str] = field(default_factory=set)


class GameEnvironment:
    """Plays foreign games, one for each session.

    Args:
        make: makes a session's game.
        instruction: system message of every seat; empty for none.
        retries: how often a seat is asked again when what it wrote is no action. After that the episode is over for
            the policy's own fault: it counts as terminated.
        penalty: paid to that seat then.
    """

    capabilities = Capabilities()

    def __init__(self, make: GameMaker, *, instruction: str = "", retries: int = 2, penalty: float = 0.0) -> None:
        self._make = make
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._retries = retries
        self._penalty = penalty
        self._plays: dict[str, _Play] = {}

    async def reset(self, session: Session) -> Turn:
        """Set the game up from the task's seed, so that all sessions of a task begin alike."""
        dice = Dice(session.task.payload["seed"])
        with dice.rolling():
            game = self._make(session)
        play = self._plays[session.id] = _Play(game, dice)
        beat = _rolled(play, game.begin)
        if beat.stop is not None:
            raise EnvironmentFault(
                "the game was over before anybody could act",
                where=f"task {session.task.key}",
                got=beat.reason or beat.stop.value,
            )
        return self._turn(play, beat)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """Parse what the seats wrote, and play once all of them have acted."""
        play = self._plays.get(session.id)
        if play is None or not play.waiting:
            raise EnvironmentFault(
                "a step in a session that is not open",
                where=f"session {session.id}",
                next_step="do not step after Done",
            )
        wrong = {}
        for seat in play.waiting:
            if seat in play.actions:
                continue
            if seat not in acts:
                raise EnvironmentFault("a seat that must act did not", where=f"session {session.id}", got=seat)
            try:
                play.actions[seat] = _rolled(play, partial(play.game.parse, seat, act_text(acts[seat].content)))
            except IllegalAct as error:
                wrong[seat] = str(error)
        if wrong:
            return self._ask_again(play, wrong)
        actions, play.actions, play.tries = play.actions, {}, {}
        return self._outcome(play, _rolled(play, partial(play.game.play, actions)))

    def tools(self) -> tuple[ToolSpec, ...]:
        """None: what a seat writes is its action."""
        return ()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """An error result: there are no tools."""
        return ToolResult(content=f"there is no tool called {call.name[:80]!r}", is_error=True)

    async def close(self, session: Session) -> None:
        """Close the game."""
        play = self._plays.pop(session.id, None)
        if play is not None:
            _rolled(play, play.game.close)

    def _ask_again(self, play: _Play, wrong: Mapping[str, str]) -> Turn | Done:
        unpaid = dict.fromkeys(play.waiting, 0.0)
        for seat, complaint in wrong.items():
            play.tries[seat] = play.tries.get(seat, 0) + 1
            if play.tries[seat] > self._retries:
                reason = f"{seat} wrote no legal action in {play.tries[seat]} tries"
                beat = Beat(seen={}, paid={**unpaid, seat: self._penalty}, stop=StopReason.TERMINATED, reason=reason)
                return self._outcome(play, beat)
            unpaid[seat] = 0.0
            wrong = {**wrong, seat: f"This is no legal action: {complaint}"}
        return self._turn(play, Beat(seen=wrong, paid=unpaid), keep_waiting=True)

    def _outcome(self, play: _Play, beat: Beat) -> Turn | Done:
        if beat.stop is None:
            return self._turn(play, beat)
        play.waiting = ()
        info = {**payment(beat.paid, where="the last step"), **_json_ready(beat.info)}
        return Done(stop=beat.stop, reason=shown(beat.reason, 500), info=info)

    def _turn(self, play: _Play, beat: Beat, *, keep_waiting: bool = False) -> Turn:
        if not keep_waiting:
            play.waiting = tuple(beat.seen)
        seats = {}
        for seat, text in beat.seen.items():
            opening = () if seat in play.greeted else self._opening
            play.greeted.add(seat)
            seats[seat] = (*opening, Message(role="user", content=shown(text)))
        return Turn(seats=seats, info=payment(beat.paid, where="a step") if beat.paid else {})


def _rolled(play: _Play, call: Callable[[], T]) -> T:
    with play.dice.rolling():
        return call()


def _json_ready(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a foreign info that can be stored."""
    kept = {}
    for key, value in info.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value
        if isinstance(plain, (bool, int, str)) or (isinstance(plain, float) and math.isfinite(plain)):
            kept[shown(str(key), 100)] = shown(plain, 500) if isinstance(plain, str) else plain
    return kept
