"""Names, units and numbers for readers."""

from __future__ import annotations

import math

import pytest

from askesis.training.report.catalog import METRICS, format_number, format_seconds, metric, ordered


def test_known_names_come_first_in_the_catalogue_order() -> None:
    assert ordered(["zebra", "entropy", "ape", "reward_mean"]) == ["reward_mean", "entropy", "ape", "zebra"]
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_an_unknown_metric_keeps_its_name() -> None:
    unknown = metric("zebra")
    assert (unknown.title, unknown.known, unknown.show(2.0)) == ("zebra", False, "2")
    assert metric("entropy").known


def test_units() -> None:
    assert metric("accuracy").show(0.8215) == "82.2 %"
    assert metric("accuracy").show(math.nan) == "nan"
    assert metric("tokens_per_second").show(8123.4) == "8,123 tokens/s"
    assert metric("tokens_per_second").show(8123.4, unit=False) == "8,123"
    assert metric("reward_mean").show(0.25) == "0.25"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (1234567.0, "1,234,567"),
        (1234.5, "1,234"),
        (0.123456, "0.123"),
        (-0.5, "-0.5"),
        (0.00012345, "0.000123"),
        (3e-7, "3e-7"),
        (-1.84e-7, "-1.8e-7"),
        (1e300, f"{1e300:,.0f}"),
        (math.inf, "inf"),
    ],
)
def test_format_number(value: float, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_format_seconds(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown
