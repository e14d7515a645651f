"""The recipe of each claim's method: valid, and the algorithm of the claim."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.claims import Study
from askesis.claims.catalog import CLAIMS, find_study
from askesis.recipe import load_recipe
from askesis.training.pieces import check_learner, make_algorithm
from askesis.training.preflight import open_world

RECIPES = Path(__file__).parents[2] / "recipes"


STUDIES = [name for name in CLAIMS if isinstance(find_study(name), Study) and name != "aem-search"]
"""One for each paper; AEM has two."""


@pytest.mark.parametrize("name", STUDIES)
def test_the_quickstart_of_a_paper_trains_its_method(name: str) -> None:
    recipe = load_recipe(RECIPES / name / "quickstart.toml").recipe
    method = find_study(name).method
    if recipe.learner.kind == "evolution":
        assert recipe.learner.evolution.method == method.overrides["learner.evolution.method"]
        check_learner(recipe)
    else:
        assert recipe.algorithm.name == method.overrides["algorithm.name"]
        assert make_algorithm(recipe).name
    assert open_world(recipe).tasks.task("train", 0).content_hash
