"""What vLLM cannot do is said with the recipe, and only where vLLM samples."""

from __future__ import annotations

import pytest

from askesis.errors import RecipeError
from askesis.recipe import load_recipe
from askesis.recipe.vllm import is_sampled_by_vllm


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["sampling.temperature=2.5"], r"sampling\.temperature=2\.5"),
        (["evaluation.temperature=0.001"], r"evaluation\.temperature=0\.001"),
        (["training.staleness=2"], r"training\.staleness=2"),
        (["learner.kind=evolution", "learner.evolution.side_by_side=2"], "side_by_side"),
        (["learner.kind=evolution", "cluster.kind=ray"], "members of an evolution"),
        (["cluster.kind=ray", "states.evaluator=frozen", "algorithm.name=oases"], r"states\.evaluator=frozen"),
    ],
)
def test_it_is_refused_and_the_embedded_engine_is_named(overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named) as caught:
        load_recipe(None, [*overrides, "engine.kind=vllm"])
    assert "engine.kind=embedded" in str(caught.value)


def test_other_engines_sample_at_any_temperature() -> None:
    assert load_recipe(None, ["sampling.temperature=2.5"]).recipe.sampling.temperature == 2.5
    hot = load_recipe(None, ["sampling.temperature=2.0", "engine.kind=vllm"])
    assert hot.recipe.sampling.temperature == 2.0
    assert all(map(is_sampled_by_vllm, (0.0, 0.01, 1.0, 2.0))) and not any(map(is_sampled_by_vllm, (0.005, 2.001)))
