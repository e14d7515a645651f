"""Where wall-clock time goes, when many things are under way at once.

A meter charges every moment to exactly one activity: of those under way, the first in the order of :class:`Activity`.
So the seconds add up to the time that has passed. It belongs to one event loop and has no lock; what another thread
computes is charged by whoever waits for it there. Activities begin and end a few times per model call, never per token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from enum import IntEnum

__all__ = ["Activity", "Charge", "Meter", "charging", "current_meter", "metered"]


class Activity(IntEnum):
    """What time is spent on; of several at once the first counts."""

    EVALUATION = 0
    """Everything that belongs to a held-out evaluation."""
    CHECKPOINT = 1
    STORE = 2
    """Reading and writing records; the loop does nothing else meanwhile."""
    SAMPLING = 3
    """The engine computes."""
    TOKENISING = 4
    """Messages into ids and back, while the engine rests."""
    ENVIRONMENT = 5
    """Worlds, tools and programs, while the engine rests."""
    JUDGING = 6
    """Evaluators, while none of the above is under way."""
    LEARNER = 7
    CHECKS = 8
    """The run's checks of itself."""
    OTHER = 9
    """What nothing else claims: our own work between the others."""

    @property
    def label(self) -> str:
        """Lower case, as in the names of metrics."""
        return self.name.lower()


class Charge:
    """A context manager that charges an activity; can be entered again and again, also while it is entered."""

    __slots__ = ("_activity", "_meter")

    def __init__(self, meter: Meter, activity: Activity) -> None:
        self._meter, self._activity = meter, activity

    def __enter__(self) -> None:
        self._meter.enter(self._activity)

    def __exit__(self, *_: object) -> None:
        self._meter.leave(self._activity)


class Meter:
    """Seconds by activity since the last :meth:`take`. ``now`` is a clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._open = [0] * len(Activity)
        self._open[Activity.OTHER] = 1
        self._seconds = [0.0] * len(Activity)
        self._charged = int(Activity.OTHER)
        self._since = now()
        self._charges = tuple(Charge(self, activity) for activity in Activity)

    def charge(self, activity: Activity) -> Charge:
        """For a ``with`` block."""
        return self._charges[activity]

    def enter(self, activity: Activity) -> None:
        """One more of this activity is under way."""
        self._open[activity] += 1
        if activity < self._charged:
            self._switch(activity)

    def leave(self, activity: Activity) -> None:
        """One less."""
        self._open[activity] -= 1
        if activity == self._charged and not self._open[activity]:
            self._switch(next(place for place, number in enumerate(self._open) if number))

    def take(self, activities: Iterable[Activity] = tuple(Activity)) -> dict[str, float]:
        """Seconds by label since they were last taken, of these activities; the others go on adding up."""
        self._switch(self._charged)
        taken = {}
        for activity in activities:
            taken[activity.label] = self._seconds[activity]
            self._seconds[activity] = 0.0
        return taken

    def _switch(self, to: int) -> None:
        now = self._now()
        self._seconds[self._charged] += now - self._since
        self._since, self._charged = now, to


_current: ContextVar[Meter | None] = ContextVar("askesis_meter", default=None)
_NOTHING: nullcontext[None] = nullcontext()


def current_meter() -> Meter | None:
    """The meter of whoever is running, if there is one."""
    return _current.get()


def charging(activity: Activity) -> Charge | nullcontext[None]:
    """Charge the ``with`` block to ``activity`` of the present meter; without one this does nothing."""
    meter = _current.get()
    return _NOTHING if meter is None else meter.charge(activity)


@contextmanager
def metered(meter: Meter) -> Iterator[Meter]:
    """``meter`` is the present one in this block, and in the tasks that begin in it."""
    token = _current.set(meter)
    try:
        yield meter
    finally:
        _current.reset(token)
