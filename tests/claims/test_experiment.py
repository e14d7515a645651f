"""Claims whose trials are calls of a function, through the same harness as training runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from askesis.claims import Arm, CurveLabel, Experiment, Metric, Part, Role, Scale, Setting, Trial
from askesis.claims.checking import check
from askesis.claims.experiment import make_trial
from askesis.claims.page import page_text
from askesis.claims.reading import held_out_pass
from askesis.claims.records import closing_line
from askesis.claims.running import FailedRun, make_runs
from askesis.errors import AskesisError, RecipeError
from askesis.evaluation import MetricError
from askesis.store import Store
from toy_experiment import run

Make = Callable[..., Experiment]


def experiment(**changes: Any) -> Experiment:
    parts: dict[str, Any] = {
        "name": "toy",
        "title": "A toy",
        "paper": "Nobody 2026",
        "statement": "Ours errs less.",
        "measured": "Nothing.",
        "arms": (
            Arm(name="ours", role=Role.METHOD, overrides={}),
            Arm(name="plain", role=Role.BASELINE, overrides={"kind": "plain"}),
            Arm(name="poor", role=Role.BASELINE, overrides={"kind": "poor"}),
        ),
        "settings": (Setting(name="here"), Setting(name="there", overrides={"size": 2})),
        "metrics": (
            Metric(name="error", unit="nats", lower_is_better=True, note="twice"),
            Metric(name="process", unit=""),
            Metric(name="threads", unit=""),
        ),
        "parts": (Part(statement="A smaller error", metric="error", setting="here"),),
        "scales": {
            "smoke": Scale(overrides={"size": 1}, seeds=1, workers=0, judged=False),
            "laptop": Scale(overrides={}, seeds=3, workers=2),
        },
        "run": run,
        "cost_name": "evaluations",
    }
    return Experiment(**{**parts, **changes})


def plans(claim: Experiment, folder: Path, *, scale: str = "smoke", seeds: int = 1) -> list[Any]:
    return claim.plans(claim.scale(scale), seeds=seeds, folder=folder)


def test_options_are_those_of_setting_scale_and_arm_and_name_the_file(tmp_path: Path) -> None:
    made = plans(experiment(), tmp_path, seeds=2)
    assert len({plan.path for plan in made}) == 2 * 2 * 3
    assert [plan.task.options for plan in made[3:5]] == [{"size": 1}, {"size": 1, "kind": "plain"}]
    assert made[4].overrides == ("size=1", 'kind="plain"')
    changed = [experiment(version=2), experiment(arms=(*experiment().arms[:2], Arm(**_poor(kind="worse"))))]
    assert [made[2].path == plans(claim, tmp_path)[2].path for claim in changed] == [False, False]
    assert plans(experiment(), tmp_path)[2].path == made[2].path


def _poor(**overrides: Any) -> dict[str, Any]:
    return {"name": "poor", "role": Role.BASELINE, "overrides": overrides}


def test_a_trial_is_made_once_and_read_as_it_was(tmp_path: Path) -> None:
    plan = plans(experiment(), tmp_path)[0]
    first = make_trial(plan)
    assert first.trial.cost == 12.5 and first.trial.curve == [(0, 1.0), (10, first.trial.metrics["error"][0])]
    again = make_trial(plan._replace(task=plan.task._replace(options={"broken": True})))
    assert again == first
    assert json.loads(plan.path.read_text())["options"] == {"size": 1}


@pytest.mark.parametrize(
    "given", [{"error": [1.0]}, {"error": [float("nan")], "process": [0.0], "threads": [0.0]}], ids=["missing", "nan"]
)
def test_a_trial_without_what_is_measured_is_refused(given: dict[str, list[float]], tmp_path: Path) -> None:
    plan = plans(experiment(run=lambda *_: Trial(metrics=given)), tmp_path)[0]
    with pytest.raises(MetricError, match="not give what its experiment measures"):
        make_trial(plan)
    assert not plan.path.exists()


def test_an_experiment_cannot_read_a_training_run() -> None:
    with pytest.raises(RecipeError, match="reads a training run"):
        experiment(metrics=(Metric(name="error", read=held_out_pass(1)),))


def test_a_failed_trial_is_shown_and_the_others_are_kept(tmp_path: Path) -> None:
    broken = (*experiment().arms[:2], Arm(**_poor(broken=True)))
    log: list[tuple[str, bool]] = []
    with pytest.raises(AskesisError, match=r"2 of 6 runs failed.*ZeroDivisionError: as asked"):
        made = plans(experiment(arms=broken), tmp_path)
        make_runs(made, workers=0, notify=lambda plan, end: log.append((plan.arm, isinstance(end, FailedRun))))
    assert sorted(set(log)) == [("ours", False), ("plain", False), ("poor", True)]
    assert len(list(tmp_path.glob("*.json"))) == 4


@pytest.mark.opt_in
def test_a_judged_experiment_has_a_verdict_a_page_a_picture_and_a_store(tmp_path: Path) -> None:
    result = check(experiment(shared=True), "laptop", folder=tmp_path)
    # The strongest rival is the one with the smallest error, and less is what the part asks for.
    assert result.holds is True and result.parts[0].rival == "plain" and result.parts[0].effect.high < 0
    line = closing_line(result)
    assert line["holds"] is True and line["method"]["settings"]["here"]["error"][0] == pytest.approx(0.00158, rel=0.1)
    record = json.loads((tmp_path / "result.json").read_text())
    processes: dict[int, set[float]] = {}
    for arm in record["arms"]:
        for seed, process in enumerate(arm["metrics"]["process"]["per_seed"]):
            processes.setdefault(seed, set()).add(process)
        assert arm["metrics"]["threads"]["mean"] == 1.0
    assert [len(found) for found in processes.values()] == [1, 1, 1]  # `shared`: one process for each seed
    text = page_text([record])
    assert "| setting | arm | role | error, nats | process | threads | evaluations |" in text
    assert [said["name"] for said in record["metrics"]] == ["error", "process", "threads"]
    assert "- error: twice; lower is better" in text and "| 12.5 |" in text and "must lie" in text
    reached = result.arms[0].metrics["error"]
    assert f"| here | ours | method | {reached.mean:.3g} [{reached.low:.3g}, {reached.high:.3g}] |" in text
    picture = (tmp_path / "result.svg").read_text()
    assert ElementTree.fromstring(picture).tag.endswith("svg") and "error, nats" in picture
    with Store.open(tmp_path / "store.db", read_only=True) as store:
        (kept,) = store.runs()
        assert store.metrics(kept.record.run_id)["holds"] == [(0, 1.0)]


def test_why_a_claim_fails_is_said_in_the_metrics_own_unit(tmp_path: Path) -> None:
    arms = experiment().arms
    turned = (Arm(name="poor", role=Role.METHOD, overrides={}), Arm(name="ours", role=Role.BASELINE, overrides={}))
    claim = experiment(
        arms=(*turned, arms[1]), curve=CurveLabel(name="error so far", unit="nats"), settings=(Setting(name="here"),)
    )
    result = check(claim, "laptop", folder=tmp_path)
    assert result.holds is False and "error, here: method minus ours is +0.8" in result.reason
    assert result.reason.endswith("and should lie below 0.")
    picture = (tmp_path / "result.svg").read_text()
    assert "error so far, nats" in picture and "process" not in picture
