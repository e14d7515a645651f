"""Counters of a server in the Prometheus text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """What one server has done since it started. Each server has a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "askesis_requests", "Chat completions by HTTP status.", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "askesis_request_seconds", "From a request to its answer.", buckets=_SECONDS, registry=self._registry
        )
        self._repeated = Counter(
            "askesis_repeated_requests", "Requests that got a recorded answer.", registry=self._registry
        )
        self._tokens = Counter("askesis_tokens", "Tokens by kind.", ["kind"], registry=self._registry)
        self._open = Gauge("askesis_open_requests", "Chat completions in progress.", registry=self._registry)
        self._sessions = Gauge("askesis_sessions", "Sessions that are open.", registry=self._registry)

    def begin(self) -> None:
        """A request has come."""
        self._open.inc()

    def end(self, status: int, seconds: float) -> None:
        """It was answered with ``status`` after ``seconds``."""
        self._open.dec()
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def answered(self, *, num_context: int, num_sampled: int, repeated: bool) -> None:
        """An answer was given; only a new one has cost tokens."""
        if repeated:
            self._repeated.inc()
            return
        self._tokens.labels("context").inc(num_context)
        self._tokens.labels("sampled").inc(num_sampled)

    def sessions(self, count: int) -> None:
        """So many sessions are open now."""
        self._sessions.set(count)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
