"""Clocks: the real one, and a virtual one on which hours of waiting take no time.

All deadlines go through ``asyncio`` (``asyncio.timeout``, ``asyncio.sleep``), whose notion of time is the event
loop's. A virtual clock therefore is an event loop that, when it would sleep, moves its time forward instead: code
under test needs no change.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

__all__ = ["Clock", "SystemClock", "VirtualClock"]

T = TypeVar("T")


class Clock(Protocol):
    """Where a session reads the time. Seconds since the epoch (or since a chosen origin)."""

    def now(self) -> float:
        """The present moment in seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()


class _JumpingSelector(selectors.DefaultSelector):
    """Polls once; if nothing is ready, the wait is added to the clock instead of being waited for."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._clock.advance(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_JumpingSelector(clock))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.now()


class VirtualClock:
    """A clock that moves only when everybody sleeps.

    ``clock.run(main())`` runs a coroutine on an event loop that keeps this time. Threads are not seen by it: time
    jumps while a thread works, so use it for code that only awaits.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward. Raises ValueError for a negative step: time never runs back."""
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: got {seconds} s")
        self._now += seconds

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` to its end on virtual time and return its result."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)
