"""Recipes and what they are built into."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from askesis.diffusion.targets import TargetSection, build_target, load_schedule_recipe, start_noise
from askesis.errors import RecipeError

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "art-diffusion").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_schedule_recipe(path)
    assert recipe.target.kind in ("mixture", "digits") and recipe.learner.num_steps == 20


@pytest.mark.parametrize(("kind", "dim"), [("gaussian", 5), ("mixture", 5), ("circle", 2)])
def test_analytic_targets(kind: str, dim: int) -> None:
    target = build_target(TargetSection.model_validate({"kind": kind, "dim": 5}))
    assert target.shape == (dim,)
    x = torch.ones(3, dim, dtype=torch.float64)
    assert target.denoiser(x, torch.ones(3, dtype=torch.float64)).shape == (3, dim)


def test_the_seed_of_a_target_moves_its_components() -> None:
    x, sigma = torch.ones(1, 4, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    first, same, other = (
        build_target(TargetSection(dim=4, seed=seed)).denoiser(x, sigma).tolist() for seed in (0, 0, 1)
    )
    assert first == same != other


def test_digits_are_trained() -> None:
    target = build_target(TargetSection(kind="digits", training_steps=1))
    assert target.shape == (64,)


def test_noise_is_named() -> None:
    first, same = (start_noise(500, (3,), 80.0, seed=0, name="a") for _ in range(2))
    assert torch.equal(first, same) and not torch.equal(first, start_noise(500, (3,), 80.0, seed=0, name="b"))
    assert float(first.std()) == pytest.approx(80, rel=0.05)


def test_a_misspelt_key_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"learner\.iterations"):
        load_schedule_recipe(None, ["learner.iteratons=3"])
