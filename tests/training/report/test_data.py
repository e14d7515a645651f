"""What the report's values work out by themselves."""

from __future__ import annotations

import pytest

from askesis.training.report import Evaluation, RecipeRow, ReportData


def test_accuracy_of_nothing_is_not_zero() -> None:
    assert Evaluation(label="x", n=0, successes=0, interval=None).accuracy is None
    assert Evaluation(label="x", n=4, successes=1, interval=None).accuracy == 0.25


@pytest.mark.parametrize(("default", "differs"), [("1e-4", False), ("1e-3", True), (None, True)])
def test_a_value_differs_from_its_default_or_has_none(default: str | None, differs: bool) -> None:
    assert RecipeRow(key="lr", value="1e-4", default=default).differs is differs


def test_only_id_and_status_are_needed() -> None:
    assert ReportData(run_id="r", status="running").evaluations == ()
