"""A recipe's parts fit together, and nothing is written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from askesis.clock import SystemClock
from askesis.errors import RecipeError
from askesis.learners import GradientLearner
from askesis.learners.evolution import EvolutionLearner
from askesis.recipe import Recipe, load_recipe
from askesis.training.parts import Parts
from askesis.training.progress import PlainProgress


def load(recipe: Recipe, folder: Path) -> Parts:
    return Parts.load(recipe, folder, PlainProgress(io.StringIO(), clock=SystemClock()))


@pytest.mark.parametrize(("kind", "expected"), [("gradient", GradientLearner), ("evolution", EvolutionLearner)])
def test_learner_and_sampler_share_the_policy(kind: str, expected: type, tiny_folder: Path, tmp_path: Path) -> None:
    recipe = load_recipe(None, [f'policy.name="{tiny_folder}"', f"learner.kind={kind}"]).recipe
    parts = load(recipe, tmp_path)
    assert type(parts.learner) is expected and parts.learner.policy is parts.policy
    assert parts.sampler.engine is parts.sampler.current and parts.sampler.first is None
    assert not list(tmp_path.iterdir())


def test_a_learner_that_cannot_be_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["policy.name=no/such/model", "algorithm.name=gro"]).recipe
    with pytest.raises(RecipeError, match="grpo"):
        load(recipe, tmp_path)
