"""Everything that looks on while a run trains, behind one object. With nothing switched on it costs a few calls a step.

The phases of a step are spans, one after the other; the meter knows finer where the time of each went.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from askesis.errors import AskesisError
from askesis.metering import Activity, Meter, metered
from askesis.recipe import ObserveSection
from askesis.training.observe.live import Listener, LiveFile, Told
from askesis.training.observe.spans import open_spans
from askesis.training.progress import Progress
from askesis.training.report.timeline import metric_name
from askesis.training.rundir import RunDir

if TYPE_CHECKING:
    from askesis.rollout.session import Outcome
    from askesis.training.observe.endpoint import RunMetrics

__all__ = ["Observer"]

BETWEEN_STEPS = (Activity.EVALUATION, Activity.CHECKPOINT)
_WARNINGS = 100
"""The last ones are kept for the report."""
_IN_STEPS = tuple(activity for activity in Activity if activity not in BETWEEN_STEPS)


class Observer:
    """Tells the display, ``live.json``, the Prometheus endpoint and the span exporter what the run does.

    Raises:
        MissingExtra: something is switched on whose packages are not installed.
    """

    def __init__(self, section: ObserveSection, run: RunDir, run_id: str, progress: Progress) -> None:
        self._section, self._run = section, run
        self.meter = Meter()
        self._spans = open_spans(is_on=section.traces, run_id=run_id)
        self._live = LiveFile(run.live)
        listeners: list[Listener] = [progress, self._live]
        self._metrics: RunMetrics | None = None
        if section.metrics_port:
            from askesis.training.observe import endpoint

            self._metrics = endpoint.RunMetrics(run_id)
            listeners.append(self._metrics)
        self.progress = Told(listeners)

    @property
    def on_session(self) -> Callable[[Outcome], None] | None:
        """For the rollout runner."""
        return self._spans.on_session

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Time is metered and the endpoint answers in this block; afterwards all spans are sent."""
        try:
            async with AsyncExitStack() as stack:
                if self._metrics is not None:
                    from askesis.training.observe.endpoint import serving

                    section = self._section
                    url = await stack.enter_async_context(
                        serving(self._metrics, section.metrics_host, section.metrics_port)
                    )
                    self.progress.stage(f"metrics at {url}/metrics")
                stack.enter_context(metered(self.meter))
                self.meter.take()  # what came before is no part of a step
                yield
        finally:
            self._spans.close()

    @contextmanager
    def phase(self, name: str, activity: Activity | None = None, **attributes: str | int | float) -> Iterator[None]:
        """A span, with its time charged to ``activity`` if one is given."""
        with self._spans.span(name, **attributes):
            if activity is None:
                yield
                return
            with self.meter.charge(activity):
                yield

    def warn(self, text: str) -> None:
        """Something went wrong that the run goes on from: for the log, for `askesis top`, for the report."""
        logging.getLogger(__name__).warning("%s", text)
        self._live.warn(text)
        with suppress(AskesisError):  # no reason to stop
            kept = [*self._run.state().get("warnings", []), text]
            self._run.update_state(warnings=kept[-_WARNINGS:])

    def seconds_of_step(self) -> dict[str, float]:
        """Metrics of a step: where its time went, by activity, since the step before."""
        return self._take(_IN_STEPS)

    def seconds_between(self) -> dict[str, float]:
        """Metrics of what happened after a step: evaluations and checkpoints. Empty when there was none."""
        return {name: seconds for name, seconds in self._take(BETWEEN_STEPS).items() if seconds}

    def _take(self, activities: Iterable[Activity]) -> dict[str, float]:
        return {metric_name(label): seconds for label, seconds in self.meter.take(activities).items()}
