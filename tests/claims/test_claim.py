"""What all claims share: directions, units and what is asked for in words."""

from __future__ import annotations

from typing import Any

import pytest

from askesis.claims import Direction, Metric, Part
from askesis.claims.claim import number

SHARE = Metric(name="pass@1")
ERROR = Metric(name="error", unit="nats", lower_is_better=True)


@pytest.mark.parametrize(
    ("direction", "margin", "share", "error"),
    [
        (None, 0.0, "above 0", "below 0"),
        (Direction.ABOVE, 0.0, "above 0", "above 0"),
        (Direction.BELOW, 0.0, "below 0", "below 0"),
        (Direction.NOT_BELOW, 0.02, "above -2", "above -0.02"),
        (Direction.NOT_ABOVE, 0.02, "below 2", "below 0.02"),
    ],
)
def test_what_is_required_in_words(direction: Direction | None, margin: float, share: str, error: str) -> None:
    part = Part(statement="x", metric="m", setting="s", direction=direction, margin=margin)
    assert (part.required(SHARE), part.required(ERROR)) == (share, error)


@pytest.mark.parametrize(
    ("value", "unit", "sign", "shown"),
    [
        (0.1234, "%", "", "12.3"),
        (0.1234, "%", "+", "+12.3"),
        (0.00026449, "", "", "0.000264"),
        (-2.5, "s", "+", "-2.5"),
    ],
)
def test_shares_are_percent_and_the_rest_plain(value: float, unit: str, sign: str, shown: str) -> None:
    assert number(value, unit, sign=sign) == shown


def test_a_claim_names_its_metrics(make_study: Any) -> None:
    assert make_study().metric("pass@1").note == "the first try" and make_study().method.name == "ours"
