"""A run's folder: identity, refusals, finding it again."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from askesis.errors import AskesisError, CheckpointError, RecipeError
from askesis.recipe import load_recipe
from askesis.training import rundir
from askesis.training.rundir import RunDir, default_run_dir, find_run, write_json


def test_a_claimed_folder_is_this_run_and_no_other(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    resolved = load_recipe(None, ["run.seed=3"])
    run.claim(resolved, {"python": "3"})
    run.store.touch()
    same = load_recipe(None, ["run.seed=3", "run.dir=elsewhere", "training.checkpoint_every=3"])
    run.claim(same, {"python": "4"})
    assert run.identity()["seed"] == 3 and run.identity()["versions"] == {"python": "3"}
    assert run.state()["warnings"] == ["resumed with other versions: python 3 -> 4"]
    with pytest.raises(RecipeError, match="another recipe") as caught:
        run.claim(load_recipe(None, ["run.seed=4", "training.lr=0.5"]), {})
    assert "run.seed=4" in str(caught.value.got) and "run.seed=3" in str(caught.value.expected)
    assert "training.lr" in str(caught.value.got)


def test_until_a_run_has_begun_a_corrected_recipe_takes_its_place(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "r")
    run.claim(load_recipe(None, ["algorithm.name=grop"]), {})
    run.claim(load_recipe(None, ["algorithm.name=grpo"]), {})
    assert run.identity()["recipe"]["algorithm.name"] == "grpo"


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RecipeError, match="something else"):
        RunDir(tmp_path).claim(load_recipe(None), {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_too_little_space_is_said_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 5 << 20))
    with pytest.raises(AskesisError, match="too little space") as caught:
        RunDir(tmp_path / "r").claim(load_recipe(None), {})
    assert "5 MB free" in str(caught.value.got)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AskesisError, match="cannot be written"):
        RunDir(tmp_path / "file" / "r").claim(load_recipe(None), {})


def test_state_is_replaced_whole(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.state() == {}
    run.update_state(status="running", step=1)
    assert run.update_state(step=2) == {"status": "running", "step": 2} == run.state()
    run.identity_file.write_text("{}")
    with pytest.raises(CheckpointError, match="broken"):
        run.identity()
    run.identity_file.unlink()
    run.state_file.write_text("{")
    with pytest.raises(CheckpointError, match="broken"):
        run.state()
    write_json(run.state_file, [1])
    with pytest.raises(CheckpointError, match="broken"):
        run.state()
    with pytest.raises(CheckpointError, match="not a run"):
        run.identity()


def test_an_unknown_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunDir(tmp_path).claim(load_recipe(None), {})
    RunDir(tmp_path).store.touch()
    monkeypatch.setattr(rundir, "FORMAT_VERSION", 2)
    with pytest.raises(CheckpointError, match="another version"):
        RunDir(tmp_path).claim(load_recipe(None), {})


def test_runs_are_found_by_folder_and_by_the_start_of_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        resolved = load_recipe(None, [f"run.seed={seed}"])
        RunDir(default_run_dir(resolved)).claim(resolved, {})
    names = sorted(p.name for p in Path("runs").iterdir())
    assert find_run(f"runs/{names[0]}").path == find_run(names[0]).path == find_run(names[0][:-2]).path
    with pytest.raises(CheckpointError, match="several"):
        find_run("recipe-")
    with pytest.raises(CheckpointError, match="no such run"):
        find_run("nothing")
