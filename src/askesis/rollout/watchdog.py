"""Interrupting foreign code that blocks the event loop.

A deadline on the loop cannot fire while synchronous code holds it: ``time.sleep`` in an environment would stop every
session. While a rollout runs, a heartbeat on the loop keeps pushing an alarm of the operating system ahead. If the
heart stops, the alarm raises :class:`LoopBlocked` inside the foreign call that holds the loop; that session fails,
the others go on.

It needs the main thread and POSIX signals; elsewhere (Windows, a worker thread) blocking code is not interrupted.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

__all__ = ["LoopBlocked", "Watchdog"]


class LoopBlocked(TimeoutError):
    """Raised inside a foreign call that held the event loop for too long."""


class _Alarm:
    """The process's one alarm, while at least one watchdog is entered."""

    def __init__(self) -> None:
        self._watchdogs: list[Watchdog] = []
        self._heart: asyncio.Task[None] | None = None
        self._before: tuple[Any, tuple[float, float]] = (None, (0.0, 0.0))

    def add(self, watchdog: Watchdog) -> None:
        if not self._watchdogs:
            handler = signal.signal(signal.SIGALRM, self._ring)
            self._before = (handler, signal.setitimer(signal.ITIMER_REAL, watchdog.limit_s))
            self._heart = asyncio.create_task(self._beat())
        self._watchdogs.append(watchdog)

    def remove(self, watchdog: Watchdog) -> None:
        self._watchdogs.remove(watchdog)
        if self._watchdogs or self._heart is None:
            return
        self._heart.cancel()
        handler, (left_s, interval_s) = self._before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)  # somebody else's alarm goes on

    @property
    def _limit_s(self) -> float:
        """The longest of those that are entered: a shorter one must not strike what it does not guard."""
        return max((watchdog.limit_s for watchdog in self._watchdogs), default=1.0)

    async def _beat(self) -> None:
        while True:
            limit_s = self._limit_s
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            await asyncio.sleep(min(1.0, limit_s / 4))

    def _ring(self, number: int, frame: FrameType | None) -> None:
        limit_s = self._limit_s
        signal.setitimer(signal.ITIMER_REAL, limit_s)  # code that swallows the error is interrupted again
        guarded = {code for watchdog in self._watchdogs for code in watchdog.guarded_code}
        while frame is not None:
            if frame.f_code in guarded:
                raise LoopBlocked(f"synchronous code held the event loop for {limit_s} s")
            frame = frame.f_back


_ALARM = _Alarm()


class Watchdog:
    """Guards the running loop while it is entered; several may be, in any order.

    Args:
        limit_s: how long the loop may be held, seconds of real time.
        guarded_code: code objects of the coroutines that run foreign calls; nothing else is ever interrupted.
    """

    def __init__(self, limit_s: float, guarded_code: frozenset[CodeType]) -> None:
        self.limit_s = limit_s
        self.guarded_code = guarded_code
        self._active = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")

    async def __aenter__(self) -> Self:
        if self._active:
            _ALARM.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._active:
            _ALARM.remove(self)
