from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from askesis.errors import RecipeError
from askesis.training.pretraining.demonstrations import FAMILIES
from askesis.training.pretraining.recipe import ModelSection, load_pretrain_recipe

RECIPES = Path(__file__).parents[3] / "recipes"
NANO, SEARCH = RECIPES / "nano.toml", RECIPES / "nano_search.toml"


def test_the_shipped_recipe_knows_every_family() -> None:
    recipe = load_pretrain_recipe(NANO)
    assert set(recipe.data.families) == set(FAMILIES)
    assert 0.2 <= recipe.data.think_share <= 0.3


def test_overrides_come_after_the_file() -> None:
    recipe = load_pretrain_recipe(NANO, ["training.tokens=123", "data.think_share=0.5"])
    assert (recipe.training.tokens, recipe.data.think_share) == (123, 0.5)
    assert recipe.model == load_pretrain_recipe(NANO).model


def test_unknown_keys_and_broken_files_are_recipe_errors(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(NANO.read_text().replace("lr_peak", "lr_peek"))
    with pytest.raises(RecipeError, match=r"did you mean 'training\.lr_peak'"):
        load_pretrain_recipe(path)
    path.write_text("[model")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_pretrain_recipe(path)
    with pytest.raises(RecipeError, match="families"):
        load_pretrain_recipe(None, ["data.families={}"])


def test_a_policy_to_go_on_from_has_a_shape_of_its_own() -> None:
    assert load_pretrain_recipe(SEARCH).model.policy == "nano"
    with pytest.raises(RecipeError, match=r"model\.policy = 'nano' has a shape of its own; leave out layers"):
        load_pretrain_recipe(SEARCH, ["model.layers=2"])


def test_the_recipe_that_goes_on_shows_all_that_nano_was_made_of() -> None:
    first, second = load_pretrain_recipe(NANO), load_pretrain_recipe(SEARCH)
    assert second.data.families == first.data.families and 0 < second.search.share < 1


def test_kv_heads_must_divide_heads() -> None:
    with pytest.raises(ValidationError, match="heads = 3, kv_heads = 2"):
        ModelSection(heads=3, kv_heads=2)
