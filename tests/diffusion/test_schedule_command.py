"""`askesis schedule` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from askesis.cli.commands import schedule as command
from askesis.diffusion.schedules import DiffusionError, Schedule, make_schedule
from askesis.errors import RecipeError

QUICK = ["learner.iterations=2", "learner.batch=4", "learner.num_steps=5", "target.dim=3"]


@pytest.fixture(autouse=True)
def restored_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_learn_then_show_then_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = tmp_path / "mine.json", tmp_path / "p.svg"
    command.learn(None, QUICK, out=path, json_output=True)
    said = last_json(capsys)
    saved = Schedule.load(path)
    assert said["sigmas"] == list(saved.sigmas) and said["schedule"] == str(path)
    assert saved.provenance["target"]["dim"] == 3
    command.show(str(path), steps=3, sigma_max=80.0, sigma_min=0.002, json_output=True)
    assert last_json(capsys)["sigmas"] == list(saved.resampled(3).sigmas)
    command.compare_schedules(
        [path],
        recipe_path=None,
        overrides=QUICK,
        steps="3, 5",
        solver="heun",
        picture=picture,
        json_output=True,
    )
    found = last_json(capsys)
    assert found["evaluations"] == [5, 9] and set(found["errors"]) > {"mine", "edm", "art_oracle"}  # type: ignore[call-overload]
    assert picture.read_bytes().startswith(b"<?xml")


def test_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.learn(None, QUICK, out=tmp_path / "mine.json", json_output=False)
    shown = capsys.readouterr()
    assert "processor seconds" in shown.out and "iteration 2/2" in shown.err
    command.show("edm", steps=None, sigma_max=80.0, sigma_min=0.002, json_output=False)
    assert "edm, 18 steps" in capsys.readouterr().out


def compare(**named: object) -> None:
    values = {"recipe_path": None, "overrides": QUICK, "steps": "5", "solver": "euler", "picture": None}
    command.compare_schedules([], **{**values, "json_output": False, **named})  # type: ignore[arg-type]


def test_usual_mistakes_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a file nor a schedule"):
        command.show("edmm", steps=None, sigma_max=80.0, sigma_min=0.002, json_output=False)
    with pytest.raises(DiffusionError, match="too few steps"):
        command.show("edm", steps=1, sigma_max=80.0, sigma_min=0.002, json_output=False)
    for steps in ("", "5;7", "1", "5,-3"):
        with pytest.raises(RecipeError, match="no numbers of steps"):
            compare(steps=steps)
    with pytest.raises(RecipeError, match="no such solver"):
        compare(solver="rk4")
    with pytest.raises(RecipeError, match="picture"):
        compare(picture=tmp_path / "p.gif")
    named_alike = tmp_path / "edm.json"
    make_schedule("edm", 5).save(named_alike)
    with pytest.raises(RecipeError, match="would have one name"):
        command.compare_schedules(
            [named_alike], recipe_path=None, overrides=QUICK, steps="5", solver="euler", picture=None, json_output=False
        )
    other = tmp_path / "other.json"
    make_schedule("edm", 5, sigma_max=10.0).save(other)
    with pytest.raises(RecipeError, match=r"learner\.sigma_max=10"):
        command.compare_schedules(
            [other], recipe_path=None, overrides=QUICK, steps="5", solver="euler", picture=None, json_output=False
        )
