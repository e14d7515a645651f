"""The schema itself: everything documented, everything closed."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from askesis.errors import RecipeError
from askesis.recipe import Recipe, load_recipe

SECTIONS = {name: field.annotation for name, field in Recipe.model_fields.items()}


@pytest.mark.parametrize("name", list(SECTIONS))
def test_sections_are_frozen_strict_and_closed(name: str) -> None:
    section = SECTIONS[name]
    assert isinstance(section, type) and issubclass(section, BaseModel)
    config = section.model_config
    assert (config.get("extra"), config.get("frozen"), config.get("strict")) == ("forbid", True, True)


def test_the_default_recipe_is_valid_and_a_copy_is_equal() -> None:
    assert Recipe.model_validate(Recipe().model_dump()) == Recipe()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["sampling.temperature=0.0"], "sampling.temperature=0"),
        (["learner.evolution.sigma=0.1"], "learner.evolution"),
        (["learner.kind=evolution", "training.lr=1e-3"], "training.lr"),
        (
            ["learner.kind=evolution", "training.staleness=2", "algorithm.name=gspo"],
            "algorithm.name, training.staleness",
        ),
        (["learner.kind=evolution", "algorithm.options.kl_beta=0.1"], "algorithm.options"),
    ],
)
def test_what_the_chosen_learner_would_ignore_is_refused(overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(None, overrides)


def test_values_at_their_defaults_are_no_mistake() -> None:
    recipe = load_recipe(None, ["learner.kind=evolution", "algorithm.name=grpo", "sampling.temperature=0.0"]).recipe
    assert recipe.learner.kind == "evolution" and recipe.learner.evolution.method == "essam"


def test_a_misspelt_key_of_evolution_is_named() -> None:
    with pytest.raises(RecipeError, match=r"learner\.evolution\.sigma"):
        load_recipe(None, ["learner.kind=evolution", "learner.evolution.sigmma=0.1"])


def test_where_a_run_is_kept_and_who_watches_it_is_no_part_of_what_it_is() -> None:
    plain = load_recipe(None)
    watched = load_recipe(
        None,
        [
            "store.url=postgresql://host/db",
            "run.log_format=json",
            "observe.metrics_port=9100",
            "observe.metrics_host=0.0.0.0",
            "observe.traces=true",
        ],
    )
    assert watched.hash == plain.hash


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["learner.kind=evolution", "engine.kind=vllm", "cluster.kind=ray"], "engine.kind=embedded"),
        (["learner.kind=evolution", "engine.kind=vllm", "learner.evolution.side_by_side=2"], "engine.kind=embedded"),
    ],
)
def test_who_plays_a_population_must_be_able_to(given: list[str], hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        load_recipe(None, given)


def test_first_weights_that_nobody_would_hold_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"states\.evaluator=frozen"):
        load_recipe(None, ["engine.kind=vllm", "cluster.kind=ray", "states.evaluator=frozen"])


def test_where_groups_are_played_is_not_part_of_what_a_run_is() -> None:
    options = ["cluster.kind=ray", "cluster.groups_per_worker=4", "cluster.environment_workers=2"]
    assert load_recipe(None).hash == load_recipe(None, options).hash


def test_where_a_population_is_played_is_not_part_of_what_a_run_is() -> None:
    here = load_recipe(None, ["learner.kind=evolution"])
    there = load_recipe(None, ["learner.kind=evolution", "cluster.kind=ray", "cluster.workers=7"])
    beside = load_recipe(None, ["learner.kind=evolution", "learner.evolution.side_by_side=2"])
    assert here.hash == there.hash != beside.hash
