"""What a run is doing now, in a small file that others may read at any time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from askesis.training.progress import Phase, StepEvent

__all__ = ["Listener", "LiveFile", "Told", "read_live"]


class Listener(Protocol):
    """Hears what the progress display is shown."""

    def stage(self, name: str) -> None:
        """The run starts something that is not a step."""
        ...

    def step(self, event: StepEvent) -> None:
        """A step or an evaluation has ended."""
        ...

    def tick(self, awaited: str) -> None:
        """The run waits."""
        ...


class Told:
    """Passes every event on to several listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)

    def stage(self, name: str) -> None:
        """See :class:`Listener`."""
        for listener in self._listeners:
            listener.stage(name)

    def step(self, event: StepEvent) -> None:
        """See :class:`Listener`."""
        for listener in self._listeners:
            listener.step(event)

    def tick(self, awaited: str) -> None:
        """See :class:`Listener`."""
        for listener in self._listeners:
            listener.tick(awaited)


class LiveFile:
    """Writes ``live.json``: replaced whole at every event, not flushed to the disk, never a reason to stop a run."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._now = now
        self._facts: dict[str, Any] = {"stage": "starting", "stage_since": now(), "awaited": None}

    def stage(self, name: str) -> None:
        """See :class:`Listener`."""
        self._facts |= {"stage": name, "stage_since": self._now(), "awaited": None}
        self._write()

    def step(self, event: StepEvent) -> None:
        """See :class:`Listener`."""
        stage = "training" if event.step < event.steps else "all steps done"
        self._facts |= {"stage": stage, "stage_since": self._now(), "awaited": None}
        if event.phase is Phase.TRAIN:
            self._facts |= {"step": event.step, "steps": event.steps}
        self._write()

    def tick(self, awaited: str) -> None:
        """See :class:`Listener`."""
        self._facts["awaited"] = awaited
        self._write()

    def warn(self, text: str) -> None:
        """Something went wrong that the run goes on from."""
        self._facts |= {"warning": text, "warned": self._now()}
        self._write()

    def _write(self) -> None:
        self._facts["time"] = self._now()
        try:
            self._temporary.write_text(json.dumps(self._facts), encoding="utf-8")
            self._temporary.replace(self._path)
        except OSError:
            return  # a full disk stops the run where records are written, with a message that says so


def read_live(path: Path) -> dict[str, Any]:
    """The facts; empty when there are none, or the file is not ours."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
