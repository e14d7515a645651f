"""AEM's arms in the world of search."""

from __future__ import annotations

from pathlib import Path

from askesis.claims.aem import STUDY as QUIZ
from askesis.claims.aem_search import STUDY
from askesis.claims.study import Role
from askesis.recipe import load_recipe


def test_arms_differ_in_the_modulation_alone() -> None:
    plans = STUDY.plans(STUDY.scale("laptop"), seeds=1, folder=Path("runs"))
    recipes = {plan.arm: load_recipe(None, plan.overrides).recipe for plan in plans}
    assert {arm.name for arm in STUDY.arms if arm.role is Role.METHOD} == {"aem"} and STUDY.arms == QUIZ.arms
    options = {arm: recipe.algorithm.options for arm, recipe in recipes.items()}
    assert options["grpo"]["modulator"] == "none" and options["reversed"]["aem_lambda"] == -1.0
    rest = [recipe.model_dump(exclude={"algorithm", "run"}) for recipe in recipes.values()]
    assert rest[0] == rest[1] == rest[2] and rest[0]["agent"]["context"] == "full"
