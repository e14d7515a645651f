"""What a run says as JSON lines: one object per event, for programs that collect logs.

Every line has ``time`` (UTC), ``level``, ``event`` and ``run``. What libraries log or warn of comes as the event
``log``.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from askesis.clock import Clock, SystemClock
from askesis.errors import AskesisError
from askesis.training.progress import Pace, Phase, StepEvent

__all__ = ["JsonLog"]


class JsonLog:
    """A progress display for programs; see :class:`askesis.training.progress.Progress`."""

    def __init__(
        self,
        stream: TextIO,
        run_id: str,
        *,
        clock: Clock | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stream, self._run_id, self._now = stream, run_id, now
        self._pace = Pace(clock or SystemClock())
        self._handler = _Handler(self)

    def stage(self, name: str) -> None:
        """The event ``stage``."""
        self._pace.mark()
        self.write("info", "stage", message=name)

    def step(self, event: StepEvent) -> None:
        """The event ``step`` or ``evaluation``, with every metric."""
        if event.phase is Phase.EVALUATE:
            self._pace.mark()
        else:
            self._pace.stepped()
        name = "evaluation" if event.phase is Phase.EVALUATE else "step"
        self.write("info", name, step=event.step, steps=event.steps, metrics=_finite(event.values))

    def tick(self, awaited: str) -> None:
        """The event ``waiting``, if the wait is unusual."""
        note = self._pace.stall_note(awaited)
        if note is not None:
            self.write("warning", "waiting", message=note, awaited=awaited, seconds=self._pace.waited_s)

    def write(self, level: str, event: str, **facts: Any) -> None:
        """One line."""
        time = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        record = {"time": time, "level": level, "event": event, "run": self._run_id, **facts}
        self._stream.write(json.dumps(record, default=str) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self._handler)
        if isinstance(error, AskesisError):
            facts = {"where": error.where, "got": error.got, "expected": error.expected, "next": error.next_step}
            self.write("error", "failed", type=type(error).__name__, message=error.what, **facts)
        elif error is not None:
            self.write("error", "failed", type=type(error).__name__, message=str(error))


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no word for the others."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


class _Handler(logging.Handler):
    """Messages of the logging library."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One line for one record."""
        self._log.write(record.levelname.lower(), "log", logger=record.name, message=record.getMessage())
