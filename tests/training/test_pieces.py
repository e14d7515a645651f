"""Parts built from a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from askesis.algorithms.objectives.ppo_clip import PPO_CLIP
from askesis.errors import RecipeError
from askesis.policy.loading import Policy, load_policy
from askesis.recipe import Recipe, load_recipe
from askesis.training.pieces import (
    check_learner,
    describe,
    evolution_settings,
    make_algorithm,
    make_evolution,
    make_learner,
    set_threads,
    training_sampling,
)


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, list(overrides)).recipe


def test_dr_grpo_divides_by_the_longest_answer_unless_told_otherwise() -> None:
    assert make_algorithm(recipe("algorithm.name=dr_grpo", "sampling.max_tokens=77")).norm_length == 77
    assert make_algorithm(recipe("algorithm.name=dr_grpo", "algorithm.options.norm_length=5")).norm_length == 5


def test_the_soft_limit_on_length_ends_at_the_longest_answer() -> None:
    params = make_algorithm(recipe("algorithm.name=dapo", "sampling.max_tokens=100")).params
    assert (params["overlong_limit"], params["overlong_cache"]) == (100, 20)


@pytest.mark.parametrize("more", ["training.updates_per_step=2", "training.epochs=2", "training.staleness=2"])
def test_whatever_makes_samples_stale_needs_importance_weights(more: str) -> None:
    with pytest.raises(RecipeError, match="importance"):
        make_algorithm(recipe("algorithm.name=reinforce", more))


@pytest.mark.parametrize("name", ["grpo", "rloo", "gigpo"])
def test_an_algorithm_that_compares_needs_something_to_compare_with(name: str) -> None:
    with pytest.raises(RecipeError, match="compares the answers"):
        make_algorithm(recipe(f"algorithm.name={name}", "rollout.group_size=1"))


@pytest.mark.parametrize("name", ["reinforce", "rloo"])
def test_several_updates_need_importance_weights(name: str) -> None:
    with pytest.raises(RecipeError, match="importance"):
        make_algorithm(recipe(f"algorithm.name={name}", "training.updates_per_step=2"))
    options = ["algorithm.options.importance_weighted=true", "training.updates_per_step=2"]
    assert make_algorithm(recipe(f"algorithm.name={name}", *options)).name == name
    assert make_algorithm(recipe("algorithm.name=grpo", "training.updates_per_step=2")).name == "grpo"


def test_the_learner_scores_under_the_sampling_distribution(tiny: Policy) -> None:
    learner = make_learner(recipe("sampling.temperature=0.7", "sampling.top_k=5"), tiny)
    assert learner.settings.temperature == 0.7 and learner.settings.truncated
    assert training_sampling(recipe("sampling.top_p=0.9")).truncates
    assert not make_learner(recipe(), tiny).settings.truncated


EVOLUTION = "learner.kind=evolution"


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        (["learner.evolution.method=es"], (0, 50)),
        (["learner.evolution.method=essam"], (25, 25)),
        (["learner.evolution.method=essam_f"], (10, 40)),
        (["learner.evolution.method=essam_f", "learner.evolution.first_population=4"], (4, 46)),
    ],
)
def test_the_sessions_of_a_task_are_the_members_of_its_populations(more: list[str], sizes: tuple[int, int]) -> None:
    settings = evolution_settings(recipe(EVOLUTION, "rollout.group_size=50", *more))
    assert (settings.first_population, settings.population) == sizes
    assert settings.evaluations == 50  # the budget is that of 50 answers to a task, whatever the method


def test_the_step_is_half_of_the_noise_unless_told_otherwise() -> None:
    assert evolution_settings(recipe(EVOLUTION, "learner.evolution.sigma=0.01")).alpha == 0.005
    assert evolution_settings(recipe(EVOLUTION, "learner.evolution.alpha=0.0")).alpha == 0.0


@pytest.mark.parametrize(
    ("more", "where"),
    [
        (["learner.evolution.method=es", "learner.evolution.first_population=2"], "first_population"),
        (["rollout.group_size=3"], "first_population"),
        (["learner.evolution.first_population=16"], "rollout.group_size"),
        (["rollout.group_size=6", "learner.evolution.antithetic=true"], "group_size"),
    ],
)
def test_populations_that_do_not_work_are_refused_before_a_model_is_loaded(more: list[str], where: str) -> None:
    with pytest.raises(RecipeError, match=where):
        check_learner(recipe(EVOLUTION, *more))


def test_evolution_may_train_all_of_a_model_in_half_precision(tiny_folder: Path) -> None:
    chosen = recipe(EVOLUTION, "policy.dtype=bfloat16")
    policy = load_policy(str(tiny_folder), dtype="bfloat16", device="cpu")
    assert describe(make_evolution(chosen, policy, tiny_folder))["method"] == "essam"
    assert describe(make_learner(recipe(), load_policy(str(tiny_folder), device="cpu")))


def test_threads() -> None:
    before = torch.get_num_threads()
    set_threads(0)
    assert torch.get_num_threads() == before
    set_threads(1)
    assert torch.get_num_threads() == 1
    set_threads(before)


ASYNC = ["asynchronous.enabled=true", "asynchronous.admission=corrected", "asynchronous.max_weight=3.0"]


def test_corrected_weighs_only_what_has_no_ratio_of_its_own() -> None:
    assert make_algorithm(recipe("algorithm.name=reinforce", *ASYNC)).max_weight == 3.0
    weighted = "algorithm.options.importance_weighted=true"
    assert make_algorithm(recipe("algorithm.name=reinforce", weighted, *ASYNC)).max_weight is None
    for name in ("grpo", "gspo", "cispo", "sapo", "vespo"):
        assert make_algorithm(recipe(f"algorithm.name={name}", *ASYNC)).max_weight is None


def test_other_admissions_need_an_objective_for_stale_samples() -> None:
    with pytest.raises(RecipeError, match="importance weights"):
        make_algorithm(recipe("algorithm.name=reinforce", ASYNC[0]))
    fresh = make_algorithm(recipe("algorithm.name=reinforce", ASYNC[0], "asynchronous.max_staleness=0"))
    assert fresh.max_weight is None
    assert make_algorithm(recipe("algorithm.name=grpo", ASYNC[0])).max_weight is None


def test_an_objective_of_which_nothing_is_known_is_not_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = replace(PPO_CLIP, corrects=None)
    monkeypatch.setattr("askesis.algorithms.builder.find_objective", lambda name: unknown)
    with pytest.raises(RecipeError, match="allows for stale samples is not known"):
        make_algorithm(recipe("algorithm.name=grpo", *ASYNC))
