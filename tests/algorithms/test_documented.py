"""The page on algorithms names every preset and every stage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from askesis.algorithms import (
    PRESETS,
    Aggregation,
    credit_names,
    estimator_names,
    modulator_names,
    objective_names,
    shaping_names,
)

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text()


def rows(heading: str) -> set[str]:
    """The first cells of the table under a heading."""
    section = PAGE.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Presets", [preset.name for preset in PRESETS]),
        ("Shapings", shaping_names()),
        ("Estimators", estimator_names()),
        ("Turn modulators", modulator_names()),
        ("Token credit", credit_names()),
        ("Objectives", objective_names()),
        ("Aggregations", [kind.value for kind in Aggregation]),
    ],
)
def test_every_name_has_its_row(heading: str, names: list[str]) -> None:
    assert rows(heading) == set(names)
