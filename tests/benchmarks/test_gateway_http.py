"""The figures of the HTTP benchmark, by hand."""

from __future__ import annotations

import pytest
from benchmarks.gateway_http import WANTED_MS, summarise


def test_the_overhead_is_the_difference_of_medians() -> None:
    rounds = {
        "process": [{"p50_ms": p50, "p99_ms": 1.0, "cpu_ms": 0.25} for p50 in (0.2, 0.4, 9.0)],
        "http": [{"p50_ms": 1.4, "p99_ms": 3.0, "cpu_ms": 0.5}] * 3,
        "openai": [{"p50_ms": 4.4, "p99_ms": 5.0, "cpu_ms": 0.6}] * 3,
    }
    record = summarise(rounds)
    assert record["overhead_p50_ms"] == pytest.approx(1.0) and record["openai_overhead_p50_ms"] == pytest.approx(4.0)
    assert record["ratio"] == pytest.approx(WANTED_MS) and record["rounds"] == 3 and record["overhead_cpu_ms"] == 0.25
