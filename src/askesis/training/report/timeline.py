"""Where the time of a run went, from the metrics that each step left."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from askesis.metering import Activity

__all__ = ["Span", "Timeline", "is_phase", "metric_name", "timeline_of"]

_TITLES = {
    Activity.SAMPLING: "sampling",
    Activity.TOKENISING: "tokenising",
    Activity.ENVIRONMENT: "environments",
    Activity.JUDGING: "judging",
    Activity.STORE: "store",
    Activity.CHECKS: "self-checks",
    Activity.LEARNER: "learner",
    Activity.OTHER: "between them",
    Activity.EVALUATION: "evaluations",
    Activity.CHECKPOINT: "checkpoints",
}
"""In the order in which a step comes to them."""
_BETWEEN = (Activity.EVALUATION, Activity.CHECKPOINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One phase. Seconds; ``share`` of all that was measured; ``start`` is the share of the phases before it."""

    name: str
    title: str
    in_step: bool
    """Part of every step; False for what happens between some of them."""
    times: int
    median_s: float
    """Per step in which it happened."""
    last_s: float
    total_s: float
    share: float
    start: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Phases that took time, in order; their totals add up to ``total_s``."""

    spans: tuple[Span, ...]
    num_steps: int
    step_median_s: float
    """Of the sums over the phases of each step."""
    total_s: float

    @property
    def widest(self) -> Span:
        """The phase with the largest total."""
        return max(self.spans, key=lambda span: span.total_s)


def metric_name(label: str) -> str:
    """Name of the metric that holds the seconds of an activity."""
    return f"time_{label}_s"


_METRICS = {metric_name(activity.label): activity for activity in Activity}


def is_phase(metric: str) -> bool:
    """Does this metric hold the seconds of a phase?"""
    return metric in _METRICS


def timeline_of(series: Mapping[str, Sequence[tuple[int, float | None]]]) -> Timeline | None:
    """The timeline of a run's metrics; None when no step of it was metered."""
    seconds = {
        activity: {step: value for step, value in series.get(metric_name(activity.label), ()) if value is not None}
        for activity in _TITLES
    }
    steps = sorted(seconds[Activity.OTHER])
    total = sum(sum(by_step.values()) for by_step in seconds.values())
    if not steps or total <= 0:
        return None
    spans: list[Span] = []
    start = 0.0
    for activity, title in _TITLES.items():
        values = list(seconds[activity].values())
        if not any(values):
            continue
        share = sum(values) / total
        spans.append(
            Span(
                name=activity.label,
                title=title,
                in_step=activity not in _BETWEEN,
                times=len(values),
                median_s=statistics.median(values),
                last_s=values[-1],
                total_s=sum(values),
                share=share,
                start=start,
            )
        )
        start += share
    sums = [sum(seconds[a].get(step, 0.0) for a in _TITLES if a not in _BETWEEN) for step in steps]
    return Timeline(spans=tuple(spans), num_steps=len(steps), step_median_s=statistics.median(sums), total_s=total)
