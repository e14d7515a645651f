"""Every claim at its smallest scale through the command, and what the command answers otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from askesis.claims import Arm, Claim, Metric, Part, Role, Scale, Setting, Study
from askesis.claims.catalog import CLAIMS, find_study
from askesis.claims.checking import claim_folder
from askesis.claims.code import code_digest
from askesis.claims.judging import judge
from askesis.claims.reading import Count, FinishedRun, held_out_pass
from askesis.cli import main
from askesis.cli.commands import claim
from askesis.cli.commands.claim import exit_code

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["askesis", "claim", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return run


each = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.opt_in) for name in CLAIMS])


@each
def test_every_claim_runs_from_start_to_end(name: str, ask: Ask) -> None:
    runs_from_start_to_end(find_study(name), ask)


def test_two_arms_of_a_claim_run_from_start_to_end(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_study("a-nsr")
    assert isinstance(whole, Study)
    method = next(arm for arm in whole.arms if arm.role is Role.METHOD)
    rival = next(arm for arm in whole.arms if arm.role is Role.BASELINE)
    parts = tuple(part for part in whole.parts if part.against is None)
    study = replace(whole, arms=(method, rival), parts=parts)
    monkeypatch.setattr(claim, "find_study", lambda name: study)
    runs_from_start_to_end(study, ask)
    code, out, err = ask(study.name, "--scale", "smoke")  # again: nothing is trained, and this time a person reads it
    assert code == 0 and "not judged" in out and f"{method.name} minus this" in out, err
    assert str(claim_folder(study, "smoke")) in out


def runs_from_start_to_end(study: Claim, ask: Ask) -> None:
    code, out, err = ask(study.name, "--scale", "smoke", "--json")
    assert code == 0, err
    line = json.loads(out.splitlines()[-1])
    promised = ["claim", "holds", "scale", "seeds", "method", "baselines", "effect", "ci", "wall_s"]
    assert list(line) == promised and line["holds"] is None and line["claim"] == study.name and line["seeds"] == 1
    assert {line["method"]["name"], *line["baselines"]} == {arm.name for arm in study.arms}
    assert set(line["method"]["settings"]) == {setting.name for setting in study.settings}
    folder = claim_folder(study, "smoke")
    made = folder.glob("*/run.json" if isinstance(study, Study) else "*-0-*.json")
    assert len(list(made)) == len(study.arms) * len(study.settings) == err.count(" seed 0: ")
    assert json.loads((folder / "result.json").read_text())["statement"] == study.statement


def test_the_list(ask: Ask) -> None:
    code, out, _ = ask("--json")
    said = json.loads(out)
    assert code == 0 and set(said["claims"]) == set(CLAIMS) and said["code"] == code_digest()[:12]
    code, out, _ = ask()
    assert code == 0 and all(number in out for number in ("2605.07137", "2605.00425", "2605.03327", "2602.10693"))


def test_a_claim_that_cannot_be_judged_is_an_error_and_no_verdict(ask: Ask) -> None:
    study = find_study("dgpo")
    folder = claim_folder(study, "smoke")
    for plan in study.plans(study.scale("smoke"), seeds=1, folder=folder):
        plan.path.mkdir(parents=True)
        (plan.path / "something.txt").write_text("else")
    code, out, err = ask("dgpo", "--scale", "smoke", "--json")
    assert code == 3 and "runs failed" in err and "something else" in err and "FAILED: RecipeError" in err
    assert "no verdict" in json.loads(out.splitlines()[-1])["error"]["what"]


def test_what_is_no_error_of_ours_is_no_verdict_either(ask: Ask) -> None:
    Path("runs").write_text("a file where the folder should be")
    code, _, err = ask("dgpo", "--scale", "smoke")
    assert code == 3 and "Traceback" in err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["vesbo"], "vespo"),
        (["vespo", "--scale", "galaxy"], "laptop"),
        (["vespo", "--seeds", "2"], "at least 3"),
        (["vespo", "--scale", "smoke", "--seeds", "0"], "at least 1"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(arguments: list[str], hint: str, ask: Ask) -> None:
    code, _, err = ask(*arguments)
    assert code == 2 and hint in err and "Traceback" not in err


@pytest.mark.parametrize(("right", "scale", "code"), [(4, "laptop", 0), (1, "laptop", 1), (1, "smoke", 0)])
def test_the_exit_code_is_the_verdict(right: int, scale: str, code: int) -> None:
    study = Study(
        name="tiny",
        title="",
        paper="",
        statement="",
        measured="",
        recipe={},
        arms=(Arm(name="ours", role=Role.METHOD, overrides={}), Arm(name="nsr", role=Role.BASELINE, overrides={})),
        settings=(Setting(name="easy"),),
        metrics=(Metric(name="pass@1", read=held_out_pass(1)),),
        parts=(Part(statement="", metric="pass@1", setting="easy"),),
        scales={
            "laptop": Scale(overrides={}, seeds=3, workers=2),
            "smoke": Scale(overrides={}, seeds=3, workers=0, judged=False),
        },
    )
    runs: list[Any] = [
        FinishedRun(
            setting="easy",
            arm=arm,
            seed=seed,
            path=Path(),
            wall_s=0.0,
            num_trained=0,
            evaluations={1: (Count(4, right if arm == "ours" else 2),)},
            series={"accuracy": []},
        )
        for arm in ("ours", "nsr")
        for seed in range(3)
    ]
    assert exit_code(judge(study, scale, 3, runs, wall_s=0.0)) == code
