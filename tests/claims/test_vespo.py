"""What counts as a collapse, and that only the age of the samples differs between settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from askesis.claims.reading import Count
from askesis.claims.vespo import STUDY, stays_up


@pytest.mark.parametrize(
    ("right", "up"),
    [([4, 8, 10], 1.0), ([4, 10, 5], 1.0), ([4, 10, 4], 0.0), ([8, 3, 3], 0.0), ([0, 0, 0], 1.0)],
)
def test_a_collapse_is_a_fall_below_half_of_the_best(make_run: Any, right: list[int], up: float) -> None:
    evaluations = {32 * place: (Count(5, n // 2), Count(5, n - n // 2)) for place, n in enumerate(right)}
    assert stays_up(replace(make_run("vespo", 0, [0]), evaluations=evaluations)) == [up]


def test_settings_differ_in_the_age_of_the_samples_alone() -> None:
    assert [dict(s.overrides) for s in STUDY.settings] == [{"training.staleness": n} for n in (1, 4, 16, 64)]
    assert {arm.name for arm in STUDY.arms} == {"vespo", "grpo", "gspo", "sapo"}
