"""OpenTelemetry spans of a run: one per step, one per phase of it, and one per session. Without the extra: nothing.

Sessions become spans when they have ended, with the times that they had, so nothing is added to their own path. What
models and tools wrote is never part of a span.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from askesis.errors import MissingExtra

if TYPE_CHECKING:
    from askesis.rollout.session import Outcome

__all__ = ["NoSpans", "OtelSpans", "Spans", "open_spans", "require_spans"]

_NANO = 1_000_000_000
_PACKAGES = {
    "opentelemetry-sdk": "opentelemetry.sdk",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry.exporter.otlp.proto.http",
}


class Spans(Protocol):
    """Where spans go."""

    def span(self, name: str, **attributes: str | int | float) -> AbstractContextManager[object]:
        """A span around a block; those opened in it are its children."""
        ...

    @property
    def on_session(self) -> Callable[[Outcome], None] | None:
        """Called with every session that has ended; None when nobody asks."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class NoSpans:
    """Switched off: costs a call per phase."""

    on_session: Callable[[Outcome], None] | None = None
    _nothing: nullcontext[None] = nullcontext()

    def span(self, name: str, **attributes: str | int | float) -> AbstractContextManager[object]:
        """Nothing."""
        return self._nothing

    def close(self) -> None:
        """Nothing."""


class OtelSpans:
    """Spans of OpenTelemetry's SDK.

    Args:
        provider: of ``opentelemetry.sdk.trace``; shut down by :meth:`close`.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("askesis")

    @contextmanager
    def span(self, name: str, **attributes: str | int | float) -> Iterator[None]:
        """See :class:`Spans`. Of an error its type is kept; its message may quote what a tool wrote."""
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", type(error).__name__)
                raise

    def on_session(self, outcome: Outcome) -> None:
        """A span from the session's start to now, below the span that is open now."""
        end = time.time_ns()
        verdict, session = outcome.verdict, outcome.session
        attributes: dict[str, str | int | float] = {
            "askesis.session": session.id,
            "askesis.task": session.task.key,
            "askesis.stop": outcome.trace.stop.value,
            "askesis.calls": len(outcome.trace.calls),
            "askesis.sampled_tokens": outcome.trace.num_sampled,
            "askesis.verdict": verdict.status.value,
        }
        if verdict.reward is not None:
            attributes["askesis.reward"] = verdict.reward
        start = end - round(outcome.duration_s * _NANO)
        span = self._tracer.start_span("session", start_time=start, attributes=attributes)
        if verdict.error is not None:
            span.set_attribute("error.type", f"{verdict.error.origin.value}/{verdict.error.kind}")
        span.end(end_time=end)

    def close(self) -> None:
        """See :class:`Spans`."""
        self._provider.shutdown()


def require_spans() -> None:
    """Raise MissingExtra unless the packages of the extra ``otel`` are installed; loads none of them."""
    for package, module in _PACKAGES.items():
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # not even what it lies in
            found = None
        if found is None:
            raise MissingExtra(package, "otel", "observe.traces")


def open_spans(*, is_on: bool, run_id: str) -> Spans:
    """Spans over OTLP/HTTP to where OTEL_EXPORTER_OTLP_ENDPOINT says, from a thread of their own; or none.

    Raises:
        MissingExtra: they are on, and the packages of the extra ``otel`` are not installed.
    """
    if not is_on:
        return NoSpans()
    require_spans()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "askesis", "askesis.run": run_id})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelSpans(provider)
