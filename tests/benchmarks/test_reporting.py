from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks.memory import by_memory
from benchmarks.overhead import summarise as summarise_overhead
from benchmarks.reporting import compare, emit, options, ratio
from benchmarks.sample import summarise as summarise_sample
from benchmarks.scaling import summarise as summarise_scaling
from benchmarks.side_by_side import Measured


def measured(wall_s: float, peak_mb: float = 30.0) -> Measured:
    answer = {"wall_s": wall_s, "cpu_s": 2 * wall_s, "peak_mb": peak_mb, "tokens": 10}
    return Measured(rounds=(answer,) * 3, ready={"loaded_mb": 20.0, "versions": {"x": "1"}})


def record(peer: Measured, *, ours: Measured | None = None, rate: float | None = 1e9) -> dict[str, Any]:
    sides = {"ours": ours or measured(2.0), "TRL": peer}
    return compare("step", sides, against="TRL", wanted=2.0, threads=1, flops=1e9, rate=rate)


def test_ratio_is_the_peers_time_over_ours() -> None:
    assert ratio(measured(2.0), measured(5.0)) == 2.5
    assert ratio(measured(2.0), Measured(reason="gone")) is None


def test_a_comparison_by_hand() -> None:
    made = record(measured(6.0, peak_mb=50.0))
    assert made["ratio"] == 3.0
    assert made["cpu_ratio"] == 3.0
    assert made["memory_ratio"] == pytest.approx(10 / 30)
    assert made["floor_s"] == 1.0
    assert made["times_floor"] == 2.0
    assert made["rounds"] == 3
    assert made["sides"]["TRL"]["versions"] == {"x": "1"}
    assert made["reason"] is None


def test_memory_compares_what_each_side_takes_for_itself() -> None:
    made = by_memory(record(measured(6.0, peak_mb=50.0)))
    assert (made["ratio"], made["ratios"]) == (3.0, {"TRL": 3.0})
    assert by_memory(record(Measured(reason="gone")))["ratio"] is None


def test_an_absent_peer_has_no_ratio_but_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    made = record(Measured(reason="trl is not installed"))
    assert made["ratio"] is None
    assert made["reason"] == "trl is not installed"
    emit(made, as_json=True)
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["ratio"] is None
    assert any(line.split() == ["TRL", "not", "measured:", "trl", "is", "not", "installed"] for line in lines)
    assert any(line.startswith("ours ") and "2.000" in line for line in lines)


def test_without_ours_there_is_no_distance_to_the_floor(capsys: pytest.CaptureFixture[str]) -> None:
    made = record(measured(6.0), ours=Measured(reason="broken"))
    assert made["times_floor"] is None
    emit(made, as_json=False)
    assert "not measured: broken" in capsys.readouterr().out


def test_the_table_and_the_object_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    emit(record(measured(6.0)), as_json=True)
    out = capsys.readouterr().out
    assert "3.00" in out
    assert json.loads(out.splitlines()[-1])["ratio"] == 3.0
    assert out.count("\n{") == 1


def test_every_benchmark_takes_json_rounds_and_threads() -> None:
    chosen = options("text").parse_args(["--json", "--rounds", "3", "--threads", "1"])
    assert (chosen.json, chosen.rounds, chosen.threads) == (True, 3, 1)
    assert options("text").parse_args([]).rounds == 7


def test_sampling_takes_the_worst_cell() -> None:
    cells = [
        {"batch": 1, "ratio": 1.5, "reason": None},
        {"batch": 256, "ratio": 3.0, "reason": None},
        {"batch": 256, "ratio": 2.5, "reason": None},
    ]
    made = summarise_sample(cells, 7, 2)
    assert (made["ratio"], made["ratio_batch_1"]) == (2.5, 1.5)
    assert summarise_sample([*cells, {"batch": 256, "ratio": None, "reason": "gone"}], 7, 2)["ratio"] is None


def test_overhead_is_measured_against_the_figure_wanted() -> None:
    answer = {"wall_s": 4.0, "cpu_s": 2.5, "steps_per_s": 3000.0, "outside_share": 0.9}
    made = summarise_overhead(Measured(rounds=(answer,), ready={"grown_mb": 150.0}), 1)
    assert made["ratio"] == 1.5
    assert made["memory_ratio"] == 0.5
    assert made["steps_per_cpu_s"] == 4000.0
    assert summarise_overhead(Measured(reason="broken"), 1)["ratio"] is None


def test_scaling_compares_seconds_per_distinct_token() -> None:
    even = [_point(1.0, 10), _point(2.0, 20)]
    worse = [_point(1.0, 10), _point(4.0, 20)]
    assert summarise_scaling({"a": even}, 7, 1)["ratio"] == 1.0
    assert summarise_scaling({"a": even, "b": worse}, 7, 1)["ratio"] == 0.5
    assert summarise_scaling({"a": even, "b": worse}, 7, 1)["cpu_ratio"] == 0.5


def _point(seconds: float, distinct: int) -> dict[str, float]:
    return {"packed": seconds, "packed, CPU": 3 * seconds, "distinct": distinct}
