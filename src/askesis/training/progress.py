"""What a run shows while it runs: one live region on a terminal, one plain line now and then elsewhere.

A run feeds either display with the same events. Plain output holds no control codes, so a log file stays readable. When
nothing happens for twice the usual time of a step, both say what is awaited, and for how long.
"""

from __future__ import annotations

import statistics
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from askesis.clock import Clock, SystemClock
from askesis.training.report.catalog import format_seconds, metric, ordered

__all__ = ["LiveProgress", "Pace", "Phase", "PlainProgress", "Progress", "StepEvent", "open_progress"]

# Before the first step has ended nobody knows how long one takes; a silence of twice this is reported all the same.
FIRST_STEP_S = 15.0
RECENT_STEPS = 20


class Phase(StrEnum):
    """What a step event tells of."""

    TRAIN = "train"
    """An optimiser step was made: the bar moves."""
    EVALUATE = "evaluate"
    """An evaluation is complete: its values stay in view until the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """A step has ended.

    Args:
        step: steps made so far, this one included.
        steps: steps planned.
        values: metrics by the names of :data:`askesis.training.report.catalog.METRICS`; unknown names are not shown.
    """

    step: int
    steps: int
    values: Mapping[str, float] = field(default_factory=dict)
    phase: Phase = Phase.TRAIN


class Progress(Protocol):
    """Where a run reports to. Use it as a context manager, so that a terminal is left in order."""

    def stage(self, name: str) -> None:
        """The run starts something that is not a step, for example ``loading the policy``."""
        ...

    def step(self, event: StepEvent) -> None:
        """A step or an evaluation has ended."""
        ...

    def tick(self, awaited: str) -> None:
        """Call this now and then while waiting; ``awaited`` names what for."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_progress(
    *,
    json_output: bool = False,
    clock: Clock | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    every_s: float = 10.0,
) -> Progress:
    """The display that suits the output: live on a terminal, plain lines otherwise.

    With ``json_output`` standard output belongs to the JSON, so plain lines go to standard error. ``every_s`` is the
    time between two plain lines.
    """
    clock = clock or SystemClock()
    out = stdout or sys.stdout
    if json_output:
        return PlainProgress(stderr or sys.stderr, clock=clock, every_s=every_s)
    console = Console(file=out)
    if out.isatty() and not console.is_dumb_terminal:
        return LiveProgress(console, clock=clock)
    return PlainProgress(out, clock=clock, every_s=every_s)


class Pace:
    """How long steps take, what that means for the end, and whether the present wait is unusual."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.now()
        self._durations: deque[float] = deque(maxlen=RECENT_STEPS)
        self._next_note = 2.0

    def mark(self) -> None:
        """Something happened that is not a step: the wait begins anew."""
        self._since, self._next_note = self._clock.now(), 2.0

    def stepped(self) -> None:
        self._durations.append(self._clock.now() - self._since)
        self.mark()

    @property
    def usual_s(self) -> float | None:
        """Median of the recent steps, in which a long one among short ones does not count."""
        return statistics.median(self._durations) if self._durations else None

    @property
    def waited_s(self) -> float:
        return self._clock.now() - self._since

    def stall_note(self, awaited: str) -> str | None:
        """A line when the wait has passed 2, 4, 8 ... times the usual step; None otherwise."""
        usual = self.usual_s
        base = max(usual, 0.5) if usual is not None else FIRST_STEP_S
        if self.waited_s < self._next_note * base:
            return None
        while self.waited_s >= self._next_note * base:
            self._next_note *= 2
        known = f"a step usually takes {format_seconds(usual)}" if usual is not None else "no step has ended yet"
        return f"waiting for {awaited}: {format_seconds(self.waited_s)} so far, {known}"

    def eta(self, event: StepEvent) -> str:
        """Time left in words; empty before the first step has ended."""
        usual = self.usual_s
        return "" if usual is None else format_seconds(usual * max(0, event.steps - event.step))


class PlainProgress:
    """Lines of text: at most one every ``every_s`` seconds for steps, and always one for the last step."""

    def __init__(self, stream: TextIO, *, clock: Clock, every_s: float = 10.0) -> None:
        self._stream, self._every_s, self._clock = stream, every_s, clock
        self._pace = Pace(clock)
        self._written: float | None = None

    def stage(self, name: str) -> None:
        """Write the stage's name."""
        self._pace.mark()
        self._write(name)

    def step(self, event: StepEvent) -> None:
        """Write a line if the last one is old enough, or if this is the last step or an evaluation."""
        if event.phase is Phase.EVALUATE:
            self._pace.mark()
            self._write(f"evaluation at step {event.step}: {_in_words(event.values)}")
            return
        self._pace.stepped()
        now = self._clock.now()
        if self._written is not None and now - self._written < self._every_s and event.step < event.steps:
            return
        self._written = now
        left = f" | {self._pace.eta(event)} left" if event.step < event.steps else ""
        self._write(f"step {event.step}/{event.steps} | {_in_words(event.values)}{left}")

    def tick(self, awaited: str) -> None:
        """Write what is awaited if the wait is unusual."""
        note = self._pace.stall_note(awaited)
        if note is not None:
            self._write(note)

    def _write(self, line: str) -> None:
        self._stream.write("".join(c if c.isprintable() else "?" for c in line) + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()


class LiveProgress:
    """One region at the foot of the terminal, redrawn in place. What others print appears above it."""

    def __init__(self, console: Console, *, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._pace = Pace(clock)
        self._started = clock.now()
        self._event: StepEvent | None = None
        self._evaluation: StepEvent | None = None
        self._stage = "starting"
        self._note: str | None = None
        # Redrawn on events only: no thread of its own, and the same events give the same screen.
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._render)

    def stage(self, name: str) -> None:
        """Show the stage's name."""
        self._stage = name
        self._moved()

    def step(self, event: StepEvent) -> None:
        """Show the step's numbers, or those of the evaluation."""
        if event.phase is Phase.EVALUATE:
            self._evaluation = event
        else:
            self._event, self._stage = event, "training"
            self._pace.stepped()
        self._moved()

    def tick(self, awaited: str) -> None:
        """Show what is awaited if the wait is unusual."""
        self._note = self._pace.stall_note(awaited) or self._note
        self._live.refresh()

    def _moved(self) -> None:
        self._pace.mark()
        self._note = None
        self._live.refresh()

    def _render(self) -> Group:
        rows: list[Table | Text] = [self._bar()]
        if self._event is not None and self._event.values:
            rows.append(_numbers("now", self._event.values))
        if self._evaluation is not None:
            rows.append(_numbers(f"held out, step {self._evaluation.step}", self._evaluation.values))
        if self._note is not None:
            rows.append(Text(self._note, style="yellow"))
        return Group(*rows)

    def _bar(self) -> Table:
        grid = Table.grid(padding=(0, 1), expand=True)
        elapsed = format_seconds(self._clock.now() - self._started)
        if self._event is None:
            grid.add_row(Text(self._stage, style="bold"), Text(elapsed, style="dim", justify="right"))
            return grid
        event = self._event
        for ratio in (None, 1, None):
            grid.add_column(ratio=ratio, no_wrap=True)
        left = f"{elapsed}, {self._pace.eta(event)} left" if event.step < event.steps else elapsed
        grid.add_row(
            Text(f"{self._stage} {event.step}/{event.steps}", style="bold"),
            ProgressBar(total=max(1, event.steps), completed=event.step),
            Text(left, style="dim"),
        )
        return grid

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def _known(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Title and shown value of the metrics that the catalogue knows, in its order."""
    named = [metric(name) for name in ordered(values)]
    return [(m.short, m.show(values[m.name])) for m in named if m.known and m.live]


def _in_words(values: Mapping[str, float]) -> str:
    return " | ".join(f"{title} {shown}" for title, shown in _known(values))


def _numbers(label: str, values: Mapping[str, float]) -> Text:
    pairs = [f"[dim]{escape(title)}[/dim] {escape(shown)}" for title, shown in _known(values)]
    return Text.from_markup(f"[dim]{escape(label)}:[/dim] " + "  ".join(pairs))
