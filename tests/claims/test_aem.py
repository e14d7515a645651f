"""Two worlds that are each other's mirror."""

from __future__ import annotations

from pathlib import Path

from askesis.claims.aem import STUDY
from askesis.recipe import load_recipe
from askesis.training.preflight import open_world


def test_the_second_world_pays_for_the_other_kind_of_turns_and_asks_the_same() -> None:
    plans = STUDY.plans(STUDY.scale("smoke"), seeds=1, folder=Path("runs"))
    kinds = []
    for setting in STUDY.settings:
        plan = next(p for p in plans if p.setting == setting.name)
        questions = open_world(load_recipe(None, plan.overrides).recipe).tasks.task("train", 0).payload["questions"]
        kinds.append({(q["family"], str(sorted(q["options"].items())), q["counts"]) for q in questions})
    sure, unsure = kinds
    assert len(sure) == 2 and unsure == {(family, options, not counts) for family, options, counts in sure}
