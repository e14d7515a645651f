"""What the benchmark of populations makes of its measurements, and that all sides do the same work."""

from __future__ import annotations

from pathlib import Path

from benchmarks.es_population import COUNTS, LOAD, judge, sides


def test_the_ratios() -> None:
    record = judge(
        {
            "1 at a time": {"wall_s": 3.0, "peak_mb": 500.0},
            "4 at a time": {"wall_s": 1.0, "peak_mb": 520.0},
            "16 at a time": {"wall_s": 0.5, "peak_mb": 600.0},
        }
    )
    assert record["ratio"] == 6.0 and record["memory_ratio"] == 1.2 and record["reason"] is None


def test_a_side_that_failed_leaves_no_ratio() -> None:
    record = judge({"1 at a time": {"wall_s": 3.0, "peak_mb": 500.0}, "16 at a time": {"reason": "broken"}})
    assert record["ratio"] is None and record["reason"] == "broken"


def test_all_sides_have_the_same_batch(tmp_path: Path) -> None:
    every = sides(tmp_path)
    assert [job["side_by_side"] for job, _ in every.values()] == list(COUNTS)
    assert all(job["load"] == LOAD.to_dict() and job["members"] == 16 for job, _ in every.values())
