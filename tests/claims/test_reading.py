"""What is read from a run's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from askesis.claims.reading import Count, FinishedRun, held_out_pass, read_run, training_mean
from askesis.claims.running import make_run as train_run
from askesis.errors import CheckpointError


def test_a_run_is_read_as_it_was(make_study: Any, tmp_path: Path) -> None:
    study = make_study()
    plan = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)[0]
    made = train_run(plan)
    assert isinstance(made, FinishedRun)
    found = read_run(plan.path, setting="easy", arm="ours", seed=0)
    assert found == made
    assert set(found.evaluations) == {0, 2} and [len(tasks) for tasks in found.evaluations.values()] == [2, 2]
    assert all(count.judged == 2 for count in found.final)
    assert 2 * 2 * 2 <= found.num_trained <= 2 * 2 * 2 * 4 and [s for s, _ in found.series["accuracy"]] == [1, 2]


def test_pass_at_k_of_each_task(make_run: Any) -> None:
    run = make_run("ours", 0, [0, 1, 4])
    assert held_out_pass(1)(run) == [0.0, 0.25, 1.0]
    assert held_out_pass(2)(run) == [0.0, 0.5, 1.0]
    short = replace(run, evaluations={2: (Count(1, 1), Count(0, 0), Count(4, 2))})
    assert held_out_pass(2)(short) == [None, None, pytest.approx(5 / 6)]


def test_the_mean_over_training(make_run: Any) -> None:
    run = make_run("ours", 0, [0], accuracy=0.2)
    assert training_mean("accuracy")(run) == [pytest.approx(0.25)]
    assert training_mean("accuracy")(replace(run, series={"accuracy": [(1, None)]})) == [None]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run"):
        read_run(tmp_path, setting="easy", arm="ours", seed=0)
