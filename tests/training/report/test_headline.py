"""The claim at the top: never more than the intervals allow."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from askesis.evaluation import wilson_interval
from askesis.training.report import Evaluation, ReportData, SelfCheck, headline_json
from askesis.training.report.headline import Outcome, changes, headline, percent, percent_interval

Make = Callable[..., ReportData]


def evaluation(label: str, successes: int, n: int = 500, **more: object) -> Evaluation:
    interval = wilson_interval(successes, n) if n else None
    return Evaluation(label=label, n=n, successes=successes, interval=interval, **more)  # type: ignore[arg-type]


def test_better(make_report: Make) -> None:
    head = headline(make_report(evaluations=[evaluation("before", 156), evaluation("after", 410)]))
    assert head.outcome is Outcome.BETTER
    assert head.verdict == "Better by 50.8 points; the intervals do not overlap."
    assert head.caveats == ()


def test_worse(make_report: Make) -> None:
    head = headline(make_report(evaluations=[evaluation("before", 410), evaluation("after", 156)]))
    assert (head.outcome, head.verdict) == (Outcome.WORSE, "Worse by 50.8 points; the intervals do not overlap.")


@pytest.mark.parametrize(("before", "after", "way"), [(250, 262, "2.4 points up"), (262, 250, "2.4 points down")])
def test_overlapping_intervals_show_no_difference(make_report: Make, before: int, after: int, way: str) -> None:
    head = headline(make_report(evaluations=[evaluation("before", before), evaluation("after", after)]))
    assert head.outcome is Outcome.NO_DIFFERENCE_SHOWN
    assert head.verdict == f"No difference shown: {way}, and the intervals overlap."


def test_without_intervals_nothing_is_claimed(make_report: Make) -> None:
    bare = [Evaluation(label=x, n=10, successes=s, interval=None) for x, s in (("before", 1), ("after", 9))]
    assert headline(make_report(evaluations=bare)).outcome is Outcome.NO_DIFFERENCE_SHOWN


def test_only_equal_temperatures_are_compared(make_report: Make) -> None:
    data = make_report(
        evaluations=[
            evaluation("before", 156, temperature=0.0),
            evaluation("after", 410, temperature=0.0),
            evaluation("after, sampled", 90, temperature=1.0),
        ]
    )
    after = headline(data).after
    assert after is not None and after.label == "after"


def test_single_and_none_and_ungraded(make_report: Make) -> None:
    assert headline(make_report(evaluations=[])).outcome is Outcome.NOTHING
    assert headline(make_report(evaluations=[evaluation("before", 0, n=0)])).outcome is Outcome.NOTHING
    head = headline(make_report(evaluations=[evaluation("before", 0, n=0), evaluation("after", 5, n=10)]))
    assert head.outcome is Outcome.SINGLE and head.before is None
    assert changes(make_report(evaluations=[])) == []


def test_caveats(make_report: Make) -> None:
    data = make_report(
        status="running",
        evaluations=[evaluation("before", 50, errors=4), evaluation("after", 120, n=400, best_constant=0.29, errors=3)],
        self_checks=[SelfCheck(name="masks", passed=False), SelfCheck(name="weights", passed=False)],
    )
    text = " ".join(headline(data).caveats)
    assert "Always giving the commonest answer would score 29.0 %" in text
    assert "different numbers of answers" in text
    assert "7 answers could not be graded" in text
    assert "2 self-checks failed" in text
    assert "'running'" in text


def test_changes_name_what_was_learned(make_report: Make) -> None:
    rows = {what: (before, after) for what, before, after in changes(make_report())}
    assert rows["Thinks first"] == ("24.2 %", "98.8 %")
    assert rows["Solved in 4 tries (pass@4)"] == ("77.6 %", "99.9 %")


def test_json_is_plain_and_complete(make_report: Make) -> None:
    record = json.loads(json.dumps(headline_json(make_report()), allow_nan=False))
    assert record["outcome"] == "better"
    assert record["after"]["accuracy"] == 0.82
    assert record["after"]["interval"] == [pytest.approx(0.784, abs=1e-3), pytest.approx(0.851, abs=1e-3)]
    assert record["before"]["n"] == 500
    assert headline_json(make_report(evaluations=[]))["after"] is None


def test_percent() -> None:
    assert percent(0.312) == "31.2 %" and percent(None) == "–"
    assert percent_interval(None) == "" and percent_interval(wilson_interval(156, 500)) == "[27.3, 35.4]"
