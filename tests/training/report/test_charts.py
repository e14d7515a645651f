"""Small, deterministic pictures of numbers."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askesis.evaluation import Interval
from askesis.training.report.charts import MAX_POINTS, downsample, interval_svg, series_svg

values = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))


@given(st.lists(values, min_size=1, max_size=1500))
def test_downsampling_keeps_size_order_ends_and_extremes(column: list[float | None]) -> None:
    series = list(enumerate(column))
    points = downsample(series)
    assert len(points) <= MAX_POINTS
    steps = [step for step, _ in points]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, len(series) - 1)
    finite = [v for v in column if v is not None and math.isfinite(v)]
    kept = [v for _, v in points if math.isfinite(v)]
    if finite:
        assert (min(kept), max(kept)) == (min(finite), max(finite))
    assert all(series[step][1] == value or not math.isfinite(value) for step, value in points)


def test_short_series_are_kept_whole() -> None:
    series = [(i, float(i)) for i in range(MAX_POINTS)]
    assert downsample(series) == series


@settings(deadline=None, max_examples=12)
@example([1.7e308, -1.7e308])
@example([5e-324])
@given(st.lists(values, min_size=1, max_size=40).filter(lambda c: any(v is not None and math.isfinite(v) for v in c)))
def test_any_series_with_a_value_can_be_drawn(column: list[float | None]) -> None:
    svg = series_svg(list(enumerate(column)))
    assert svg.startswith("<svg ") and svg.endswith("</svg>")
    assert "nan" not in svg and "inf" not in svg.replace("infinity", "")


def test_charts_are_deterministic_and_hold_no_reference() -> None:
    series = [(i, math.sin(i / 9)) for i in range(200)]
    svg = series_svg(series)
    assert svg == series_svg(series)
    for forbidden in ("http", "url(", "href", "id=", "<?xml", "metadata", "font-family", "#0102", "<style"):
        assert forbidden not in svg


def test_labels_are_the_true_numbers() -> None:
    svg = series_svg([(1, 0.0), (50, 0.02)])
    assert re.findall(r">([^<>]+)</text>", svg) == ["1", "50", "0", "0.01", "0.02"]
    shares = series_svg([(1, 0.0), (1200, 1.0)], share=True)
    assert re.findall(r">([^<>]+)</text>", shares) == ["1", "1,200", "0 %", "50 %", "100 %"]


def test_counts_have_whole_labels() -> None:
    labels = re.findall(r">([^<>]+)</text>", series_svg([(i, float(i % 2)) for i in range(1, 9)]))
    assert labels == ["1", "8", "0", "1"]


def test_a_metric_measured_now_and_then_is_one_line() -> None:
    sparse = [(i, i / 200 if i % 50 == 0 else None) for i in range(1, 201)]
    assert series_svg(sparse) == series_svg([(i, i / 200) for i in (50, 100, 150, 200)])


def test_a_gap_is_not_bridged() -> None:
    column = [0.0, 1.0, 2.0, None, None, 1.0, 2.0, 1.0]
    line = re.findall(r'd="([^"]*)"[^>]*stroke-width: 1.3', series_svg(list(enumerate(column))))
    assert len(line) == 1 and line[0].count("M") == 2


def test_ten_thousand_points_stay_small() -> None:
    assert len(series_svg([(i, math.sin(i)) for i in range(10_000)])) < 12_000


@pytest.mark.parametrize("interval", [None, Interval(0.2, 0.4)])
def test_interval_has_dot_bar_and_reference(interval: Interval | None) -> None:
    svg = interval_svg(0.3, interval, reference=0.1)
    assert svg.count("var(--mark)") == 1
    assert svg.count("var(--accent)") == (4 if interval else 1)  # dot; bar and its two ends
    assert "var(--mark)" not in interval_svg(0.3, interval)
