"""What the ESSAM claim measures besides accuracy, and that its arms cost equally many answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from askesis.claims import essam
from askesis.claims.essam import STUDY, disturbed, longer, peak_memory
from askesis.claims.running import make_runs
from askesis.claims.study import Role
from askesis.recipe import load_recipe
from askesis.training.pieces import evolution_settings


def test_every_arm_samples_equally_many_answers() -> None:
    plans = STUDY.plans(STUDY.scale("laptop"), seeds=1, folder=Path("nowhere"))  # refuses unequal budgets
    recipes = {plan.arm: load_recipe(None, plan.overrides).recipe for plan in plans}
    assert {r.rollout.group_size * r.rollout.groups_per_step * r.training.steps for r in recipes.values()} == {6144}
    evolving = {name: evolution_settings(r) for name, r in recipes.items() if r.learner.kind == "evolution"}
    assert {s.evaluations for s in evolving.values()} == {16}
    assert set(evolving) == set(recipes) - {"grpo"}
    assert (evolving["essam"].first_population, evolving["essam"].population) == (8, 8)
    assert evolving["no_sharpness"] == replace(evolving["essam"], rho=0.0)
    assert evolving["no_competition"] == replace(evolving["essam"], compares=False)
    assert evolving["es"].population == 16


def test_the_displacements_of_both_variants_are_of_one_length() -> None:
    plans = STUDY.plans(STUDY.scale("laptop"), seeds=1, folder=Path("nowhere"))
    settings = {p.arm: evolution_settings(load_recipe(None, p.overrides).recipe) for p in plans if p.arm != "grpo"}
    whole = settings["essam"].rho * (1 + 886_144 / settings["essam"].first_population) ** 0.5
    assert settings["essam_f"].rho == pytest.approx(whole, rel=0.5)


def test_the_roles() -> None:
    roles = {arm.name: arm.role for arm in STUDY.arms}
    assert roles["essam"] is Role.METHOD and roles["essam_f"] is Role.VARIANT
    assert {name for name, role in roles.items() if role is Role.BASELINE} == {"es", "grpo"}


@pytest.mark.opt_in
def test_what_is_measured_of_a_run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = STUDY.scale("smoke")
    small = replace(STUDY, recipe={**STUDY.recipe, "policy.name": str(tiny_folder)})
    plan = next(p for p in small.plans(scale, seeds=1, folder=tmp_path) if p.arm == "essam")
    (run,) = make_runs([plan], workers=0, notify=lambda plan, outcome: None)
    monkeypatch.setattr(essam, "_peak", lambda path: 512.0)  # its own process costs seconds
    read: dict[str, Any] = {f.__name__: f(run) for f in (longer, disturbed, peak_memory)}
    assert 0.0 <= read["longer"][0] <= 1.0 and 0.0 <= read["disturbed"][0] <= 1.0
    assert read["peak_memory"] == [512.0]
    # Computed once: what is kept is what is read.
    (run.path / "longer.json").write_text(json.dumps({"value": 0.25}))
    assert longer(run) == [0.25]


@pytest.mark.opt_in
def test_the_peak_is_that_of_a_process_of_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    small = replace(STUDY, recipe={**STUDY.recipe, "policy.name": str(tiny_folder)})
    plan = next(p for p in small.plans(STUDY.scale("smoke"), seeds=1, folder=tmp_path) if p.arm == "grpo")
    (run,) = make_runs([plan], workers=0, notify=lambda plan, outcome: None)
    (peak,) = peak_memory(run)
    assert peak is not None and 50 < peak < 5000
