"""A Prometheus endpoint of a training run."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from askesis.errors import AskesisError
from askesis.gateway.http.server import is_loopback, require_serving
from askesis.metering import Activity
from askesis.training.progress import Phase, StepEvent

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["RunMetrics", "check_endpoint", "serving"]

TOKEN_VARIABLE = "ASKESIS_TOKEN"
"""Of the environment, as for `askesis serve`: a recipe is kept with its run."""
_SECONDS = {f"time_{activity.label}_s": activity.label for activity in Activity}


class RunMetrics:
    """What a run has done since this process took it up, as Prometheus reads it; hears the progress."""

    def __init__(self, run_id: str) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("askesis_run_info", "The run.", ["run"], registry=registry).labels(run_id).set(1)
        self._step = Gauge("askesis_step", "Training steps made.", registry=registry)
        self._planned = Gauge("askesis_steps_planned", "Training steps that the recipe asks for.", registry=registry)
        self._last = Gauge("askesis_last", "Last value of each metric of a step.", ["metric"], registry=registry)
        self._steps = Counter("askesis_steps", "Training steps made by this process.", registry=registry)
        self._failures = Counter("askesis_failed_sessions", "Training sessions without a verdict.", registry=registry)
        self._seconds = Counter("askesis_phase_seconds", "Wall-clock time by phase.", ["phase"], registry=registry)
        self._heard = Gauge("askesis_last_event_timestamp_seconds", "Time of the last sign of life.", registry=registry)
        self._heard.set_to_current_time()

    def stage(self, name: str) -> None:
        """See :class:`askesis.training.observe.live.Listener`."""
        self._heard.set(time.time())

    def tick(self, awaited: str) -> None:
        """See :class:`askesis.training.observe.live.Listener`."""
        self._heard.set(time.time())

    def step(self, event: StepEvent) -> None:
        """See :class:`askesis.training.observe.live.Listener`."""
        self._heard.set(time.time())
        self._planned.set(event.steps)
        for name, value in event.values.items():
            if name in _SECONDS:
                self._seconds.labels(_SECONDS[name]).inc(value)
            else:
                self._last.labels(name).set(value)
        if event.phase is Phase.TRAIN:
            self._step.set(event.step)
            self._steps.inc()
            self._failures.inc(event.values.get("failures", 0.0))

    def text(self) -> bytes:
        """The exposition."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


def check_endpoint(host: str, port: int) -> None:
    """Raise unless an endpoint may be opened there; port 0 asks for none.

    Raises:
        MissingExtra: the packages of the extra ``serve`` are not installed.
        AskesisError: others can reach the address, and there is no token that they would need.
    """
    if not port:
        return
    require_serving()
    if not is_loopback(host) and not os.environ.get(TOKEN_VARIABLE):
        raise AskesisError(
            "an endpoint that others can reach needs a token",
            where="observe.metrics_host",
            got=host,
            next_step=f"set {TOKEN_VARIABLE} in the environment, and as the scraper's bearer token; or listen on "
            "127.0.0.1",
        )


@asynccontextmanager
async def serving(metrics: RunMetrics, host: str, port: int) -> AsyncIterator[str]:
    """Answer ``GET /metrics`` within the loop that is running; yields the address. AskesisError if it is taken."""
    from askesis.gateway.http.listening import serve

    async with serve(_app(metrics, None if is_loopback(host) else os.environ[TOKEN_VARIABLE]), host, port) as url:
        yield url


def _app(metrics: RunMetrics, token: str | None) -> Starlette:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from askesis.gateway.http.reading import check_token
    from askesis.gateway.http.refusal import Refusal

    async def exposition(request: Request) -> Response:
        try:
            check_token(request, token)
        except Refusal as refusal:
            return PlainTextResponse(f"{refusal.message}\n", status_code=refusal.status)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/metrics", exposition, methods=["GET"])])
