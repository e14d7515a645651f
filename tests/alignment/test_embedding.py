"""From a recipe to two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from askesis.alignment import AlignmentError
from askesis.alignment.embedding import EmbedRecipe, embed
from askesis.recipe.load import resolve

RECIPE = Path(__file__).parents[2] / "recipes" / "realign" / "quickstart.toml"


def test_the_recipe_of_the_repository_makes_two_files(tmp_path: Path) -> None:
    recipe = resolve(EmbedRecipe, RECIPE, ["encoder.steps=2", "data.num=150"]).recipe
    lines: list[str] = []
    made = embed(recipe, tmp_path / "e", notify=lines.append)
    images, texts = np.load(made.images), np.load(made.texts)
    assert images.shape == texts.shape == (150, 64) == (made.num_images, made.size) and len(lines) == 2
    again = embed(recipe, tmp_path / "again")
    np.testing.assert_array_equal(np.load(again.texts), texts)


def test_another_encoder_needs_pictures_and_texts() -> None:
    recipe = resolve(EmbedRecipe, None, ["encoder.name=openai/clip-vit-base-patch32"]).recipe
    with pytest.raises(AlignmentError, match="needs pictures and texts"):
        embed(recipe, Path("nowhere"))
