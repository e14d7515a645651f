"""What a synchronous foreign game is to us: the part that differs from library to library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from askesis.gateway.session import Session
from askesis.trace.types import StopReason

__all__ = ["Beat", "Game", "GameMaker", "IllegalAct"]


class IllegalAct(Exception):
    """A policy wrote something that is no action; the text is shown to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What an action brought about. Either somebody sees something and must act, or ``stop`` says how it ended."""

    seen: Mapping[str, str]
    """What each seat that must act now newly sees."""
    paid: Mapping[str, float] = field(default_factory=dict)
    """Rewards of the seats since the last beat."""
    stop: StopReason | None = None
    """TERMINATED: the game came to its end. ENVIRONMENT_LIMIT: the game cut itself off, for ``reason``."""
    reason: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


class Game(Protocol):
    """One game for one session. Every call is made with the session's own global randomness."""

    def begin(self) -> Beat:
        """Set the game up."""
        ...

    def parse(self, seat: str, text: str) -> Any:
        """The action that ``text`` means. Raises IllegalAct."""
        ...

    def play(self, actions: Mapping[str, Any]) -> Beat:
        """Apply the actions of all seats that had to act."""
        ...

    def close(self) -> None:
        """Free what the game holds."""
        ...


GameMaker = Callable[[Session], Game]
"""Makes a session's game."""
