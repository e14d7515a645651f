"""Counters in the Prometheus text format."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from askesis.gateway.http.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {f"{s.name}{sorted(s.labels.values())}": s.value for f in families for s in f.samples}


def test_what_is_counted() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.begin()
        metrics.end(status, 0.002)
    metrics.begin()
    metrics.answered(num_context=5, num_sampled=7, repeated=False)
    metrics.answered(num_context=5, num_sampled=7, repeated=True)
    metrics.sessions(3)
    found = samples(metrics)
    assert found["askesis_requests_total['200']"] == 2 and found["askesis_requests_total['404']"] == 1
    assert (
        found["askesis_request_seconds_bucket['0.001']"] == 0 and found["askesis_request_seconds_bucket['0.003']"] == 3
    )
    assert found["askesis_tokens_total['context']"] == 5 and found["askesis_tokens_total['sampled']"] == 7
    assert found["askesis_repeated_requests_total[]"] == 1
    assert found["askesis_open_requests[]"] == 1 and found["askesis_sessions[]"] == 3


def test_servers_do_not_share_counters() -> None:
    one, other = Metrics(), Metrics()
    one.begin()
    assert samples(other)["askesis_open_requests[]"] == 0
