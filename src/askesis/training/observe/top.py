"""A run from outside, now: read from its folder and its store, without a trace in either."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from askesis.errors import StoreError
from askesis.store import Store
from askesis.training.observe.live import read_live
from askesis.training.observe.process import describe_process, is_alive
from askesis.training.report.catalog import format_brief, format_seconds, metric, ordered
from askesis.training.report.timeline import Timeline, is_phase, timeline_of
from askesis.training.rundir import RunDir

__all__ = ["Condition", "Snapshot", "render", "take_snapshot", "timeline_table"]

RECENT_STEPS = 50
SILENT_S = 60.0
"""A run writes twice a second while it waits. After this long without a word, something is said about it."""
_BAR = 24


class Condition(StrEnum):
    """How it stands with a run."""

    NOT_BEGUN = "not begun"
    RUNNING = "running"
    SILENT = "silent"
    """Somewhere else, and nothing has been heard for a minute."""
    DEAD = "dead"
    """It says that it is running, and its process is gone."""
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"

    @property
    def goes_on(self) -> bool:
        """There may be news."""
        return self in (Condition.NOT_BEGUN, Condition.RUNNING, Condition.SILENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of a run at one moment. Times in seconds."""

    run_id: str
    condition: Condition
    step: int
    steps: int
    stage: str = ""
    stage_s: float | None = None
    awaited: str | None = None
    heard_s: float | None = None
    """Since the last sign of life."""
    step_s: float | None = None
    """Median of the recent steps."""
    left_s: float | None = None
    held_out: Mapping[str, float] = field(default_factory=dict)
    """Accuracy by evaluation."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Of the last step."""
    timeline: Timeline | None = None
    """Of the recent steps."""
    process: str | None = None
    error: str | None = None
    store_error: str | None = None
    warning: str | None = None
    """The last thing that went wrong and did not stop the run."""
    warned_s: float | None = None
    """Since then."""


def take_snapshot(run: RunDir, *, now: float | None = None) -> Snapshot:
    """Read everything once. ``now`` is the time since the epoch. Raises CheckpointError when this is no run."""
    now = time.time() if now is None else now
    identity, state, live = run.identity(), run.state(), read_live(run.live)
    series, store_error = _series(run, identity["run_id"], int(live.get("step", 0)))
    heard_s = now - float(live["time"]) if "time" in live else None
    condition = _condition(state, heard_s)
    seconds = [value for _, value in series.get("step_seconds", ()) if value is not None]
    last = max((points[-1][0] for points in series.values()), default=0)
    step = int(live.get("step", last))  # a run that was resumed is not yet where it once was
    steps = int(identity["recipe"]["training.steps"])
    step_s = statistics.median(seconds) if seconds else None
    evaluations = state.get("evaluations", {})
    process = state.get("process")
    goes_on = condition in (Condition.RUNNING, Condition.SILENT)
    return Snapshot(
        run_id=identity["run_id"],
        condition=condition,
        step=step,
        steps=steps,
        stage=str(live.get("stage", "")) if goes_on else "",
        stage_s=now - float(live["stage_since"]) if goes_on and "stage_since" in live else None,
        awaited=live.get("awaited") if goes_on else None,
        heard_s=heard_s,
        step_s=step_s,
        left_s=step_s * (steps - step) if goes_on and step_s is not None else None,
        held_out={label: e["successes"] / e["n"] for label, e in evaluations.items() if e["n"]},
        metrics={name: points[-1][1] for name, points in series.items() if not is_phase(name)},
        timeline=timeline_of(series),
        process=describe_process(process) if process else None,
        error=state.get("error"),
        store_error=store_error,
        warning=live.get("warning") if goes_on else None,
        warned_s=now - float(live["warned"]) if goes_on and "warned" in live else None,
    )


def _series(run: RunDir, run_id: str, step: int) -> tuple[dict[str, list[tuple[int, float | None]]], str | None]:
    """Metrics of the recent steps, and why they cannot be read just now."""
    if not run.begun:
        return {}, None
    try:
        with Store.open(run.store_target, create=False, read_only=True, busy_timeout_s=1.0) as store:
            return store.metrics(run_id, from_step=max(step - RECENT_STEPS, 0)), None
    except StoreError as error:
        return {}, error.what


def _condition(state: Mapping[str, Any], heard_s: float | None) -> Condition:
    status = state.get("status")
    if status != "running":
        known = {c.value for c in Condition}
        return Condition(status) if status in known else Condition.NOT_BEGUN
    alive = is_alive(state.get("process"))
    if alive is None:
        return Condition.SILENT if heard_s is None or heard_s > SILENT_S else Condition.RUNNING
    return Condition.RUNNING if alive else Condition.DEAD


_STYLES = {Condition.RUNNING: "green", Condition.FINISHED: "green", Condition.FAILED: "red", Condition.DEAD: "red"}
_ADVICE = {
    Condition.DEAD: "its process is gone without a word; the same `askesis train` command resumes it",
    Condition.STOPPED: "it was interrupted; the same `askesis train` command resumes it",
    Condition.FAILED: "once the cause is removed, the same `askesis train` command resumes it",
    Condition.NOT_BEGUN: "nothing of it has been stored yet",
}


def render(shot: Snapshot) -> Group:
    """The snapshot for a terminal; what files and models wrote is plain text in it."""
    rows: list[Table | Text] = [_title(shot), _bar(shot)]
    if shot.condition in _ADVICE:
        rows.append(Text(_ADVICE[shot.condition], style=_STYLES.get(shot.condition, "yellow")))
    for line in (shot.error, shot.store_error):
        if line:
            rows.append(Text(line, style="red"))
    if shot.condition.goes_on and shot.heard_s is not None and shot.heard_s > SILENT_S:
        rows.append(Text(f"no sign of life for {format_seconds(shot.heard_s)}; {shot.process}", style="yellow"))
    if shot.warning and shot.warned_s is not None:
        rows.append(Text(f"{format_seconds(shot.warned_s)} ago: {shot.warning}", style="yellow"))
    rows.append(_numbers(shot))
    if shot.timeline is not None:
        rows.append(timeline_table(shot.timeline, title=f"the last {shot.timeline.num_steps} steps"))
    return Group(*rows)


def _title(shot: Snapshot) -> Text:
    title = Text(shot.run_id, style="bold")
    title.append(f"  {shot.condition.value}", style=_STYLES.get(shot.condition, "yellow"))
    if shot.stage:
        title.append(f"  {shot.stage}", style="dim")
    if shot.awaited and shot.stage_s is not None:
        title.append(f", waiting for {shot.awaited}: {format_seconds(shot.stage_s)}", style="dim")
    return title


def _bar(shot: Snapshot) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(width=_BAR)
    grid.add_column(no_wrap=True)
    words = [] if shot.step_s is None else [f"{format_brief(shot.step_s)} a step"]
    if shot.left_s is not None:
        words.append(f"{format_seconds(shot.left_s)} left")
    bar = ProgressBar(total=max(shot.steps, 1), completed=shot.step, width=_BAR)
    grid.add_row(Text(f"step {shot.step}/{shot.steps}"), bar, Text(", ".join(words), style="dim"))
    return grid


def _numbers(shot: Snapshot) -> Table:
    grid = Table.grid(padding=(0, 2))
    for label, share in shot.held_out.items():
        grid.add_row(Text(f"held out, {label}", style="dim"), Text(f"{100 * share:.1f} %"))
    for name in ordered(shot.metrics):
        value, known = shot.metrics[name], metric(name)
        if known.known and value is not None:
            grid.add_row(Text(known.title, style="dim"), Text(known.show(value)))
    return grid


def timeline_table(timeline: Timeline, *, title: str) -> Table:
    """Phases as bars that follow one another."""
    table = Table(title=f"where the time of {title} went", title_justify="left", box=None, padding=(0, 1))
    for name, side in (("phase", "left"), ("", "left"), ("share", "right"), ("median", "right"), ("last", "right")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for span in timeline.spans:
        start, width = round(_BAR * span.start), max(round(_BAR * span.share), 1)
        bar = Text(" " * min(start, _BAR - 1) + "█" * width, style="cyan")
        name = span.title if span.in_step else f"{span.title} ({span.times})"
        shown = (f"{100 * span.share:.1f} %", format_brief(span.median_s), format_brief(span.last_s))
        table.add_row(Text(name), bar, *(Text(text) for text in shown))
    table.add_row(Text("step"), Text(""), Text(""), Text(format_brief(timeline.step_median_s)), Text(""))
    return table
