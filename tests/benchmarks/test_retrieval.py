"""The benchmark of searches finds what it searches for, in a small world."""

from __future__ import annotations

import pytest
from benchmarks.retrieval import measure


def test_each_retriever_is_measured() -> None:
    pytest.importorskip("bm25s")
    found = measure(people=40, searches=20)
    assert found["facts"] == 200 and found["searches"] == 20
    for name in ("bm25", "fts5"):
        assert 0 < found[f"{name}_wall_p50_ms"] <= found[f"{name}_wall_p99_ms"]
    assert found["ratio"] > 0
