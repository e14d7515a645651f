"""From a run's folder to report data."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.errors import AskesisError
from askesis.recipe import load_recipe
from askesis.training.loop import train
from askesis.training.preflight import prepare
from askesis.training.progress import open_progress
from askesis.training.reporting import collect, write_report
from askesis.training.rundir import RunDir


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    overrides = [
        f'run.dir="{tmp_path_factory.mktemp("report") / "run"}"',
        f'policy.name="{tiny_folder}"',
        "training.steps=2",
        "rollout.groups_per_step=2",
        "rollout.group_size=2",
        "sampling.max_tokens=5",
        "evaluation.num_tasks=3",
        'environment.instruction=""',
    ]
    prepared = prepare(load_recipe(None, overrides))
    with open_progress(json_output=True) as progress:
        train(load_recipe(None, overrides), prepared.run, prepared.world, progress)
    return prepared.run


def test_everything_that_a_report_shows_is_found(run: RunDir) -> None:
    data = collect(run)
    assert data.status == "finished" and data.steps_done == data.steps_planned == 2
    assert [e.label for e in data.evaluations] == ["before", "after"]
    assert [e.n for e in data.evaluations] == [3, 3]
    assert {"reward_mean", "drift", "entropy", "step_seconds"} <= data.series.keys()
    assert len(data.self_checks) == 5 and all(c.passed for c in data.self_checks)
    assert any(row.key == "training.steps" and row.differs and row.origin == "command line" for row in data.recipe)
    assert data.algorithm["estimator"] == "grpo"
    assert "training.steps=2" in data.command and data.failures == []


def test_samples_pair_before_and_after_and_mark_what_was_sampled(run: RunDir) -> None:
    groups = collect(run).groups
    pairs = [g for g in groups if g.title.startswith("held out")]
    assert len(pairs) == 3 and all([m.label for m in g.members] == ["before", "after"] for g in pairs)
    for member in pairs[0].members:
        flags = [t.sampled for t in member.tokens]
        assert flags == sorted(flags) and 1 <= sum(flags) <= 5
        assert all((t.logprob is not None) == t.sampled for t in member.tokens)
        assert "".join(t.text for t in member.tokens).startswith("<|user|>")
    assert len([g for g in groups if g.title.startswith("training, step 2")]) == 2


@pytest.mark.opt_in
def test_the_page_is_written(run: RunDir, tmp_path: Path) -> None:
    assert write_report(run) == run.report
    assert "held out" in run.report.read_text()
    with pytest.raises(AskesisError, match="cannot be written"):
        write_report(run, tmp_path / "no" / "x.html")


def test_a_run_that_has_not_begun_has_a_report_too(tmp_path: Path, tiny_folder: Path) -> None:
    prepared = prepare(load_recipe(None, [f'run.dir="{tmp_path / "r"}"', f'policy.name="{tiny_folder}"']))
    with pytest.raises(AskesisError):
        collect(prepared.run)
