"""What the memory benchmark makes of its measurements, and who takes part."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.es_memory import LOAD, judge, sides


def test_the_ratios() -> None:
    record = judge(
        {
            "sampling": {"peak_mb": 500.0, "own_mb": 50.0},
            "evolution": {"peak_mb": 510.0, "own_mb": 60.0},
            "gradient": {"peak_mb": 900.0, "own_mb": 300.0},
            "TRL": {"reason": "not installed"},
        }
    )
    assert record["memory_ratio"] == pytest.approx(1.02)
    assert record["ratios"] == {"sampling": pytest.approx(50 / 60), "gradient": 5.0, "TRL": None}
    assert record["reason"] is None


def test_a_side_that_failed_leaves_no_ratio() -> None:
    record = judge({"sampling": {"reason": "broken"}, "evolution": {"peak_mb": 5.0, "own_mb": 1.0}})
    assert record["memory_ratio"] is None and record["reason"] == "broken"


def test_all_sides_have_the_same_batch(tmp_path: Path) -> None:
    every = sides(tmp_path)
    assert set(every) == {"sampling", "evolution", "gradient", "TRL"}
    assert all(job["load"] == LOAD.to_dict() for job, _ in every.values())
