"""Recipes: precedence, provenance, refusals with a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.errors import RecipeError
from askesis.recipe import Recipe, load_recipe

TEXT = """\
# a comment
[training]
lr = 2e-5
steps = 7

[environment.options]
min_terms = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(TEXT)
    return path


def test_default_then_file_then_command_line(file: Path) -> None:
    resolved = load_recipe(file, ["training.steps=9", "policy.name=some/folder", "algorithm.options.kl_beta=0.1"])
    assert resolved.recipe.training.lr == 2e-5
    assert resolved.recipe.training.steps == 9
    assert resolved.recipe.policy.name == "some/folder"
    rows = {row.key: row for row in resolved.rows}
    assert rows["training.lr"].origin == f"{file}:3" and rows["training.lr"].differs
    assert rows["training.steps"].origin == "command line"
    assert rows["training.steps"].default == Recipe().training.steps
    assert rows["environment.options.min_terms"].origin == f"{file}:7"
    assert rows["algorithm.options.kl_beta"].value == 0.1
    assert rows["rollout.group_size"].origin == "default" and not rows["rollout.group_size"].differs


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("training.lrr=1", "training.lr"),
        ("trainin.lr=1", "training"),
        ("training.leraning_rate=1", "training."),
        ("rollout.groupsize=4", "rollout.group_size"),
        ("training.temperature=0.5", "temperature"),
        ("seed=3", "run.seed"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest(override: str, suggestion: str) -> None:
    with pytest.raises(RecipeError, match="unknown key") as caught:
        load_recipe(None, [override])
    assert caught.value.expected is not None and suggestion in caught.value.expected
    assert caught.value.where == "command line"


@pytest.mark.parametrize(
    "override",
    [
        "training.steps=many",
        "training.steps=1.5",
        "training.lr=-1",
        "training.lr=true",
        "sampling.top_p=1.5",
        "environment.level=hard",
        "training.warmup_steps=60",
        "evaluation.pass_k=[4]",
        "evaluation.samples=8",
        "training=3",
        "run.seed=nan",
        "=3",
        "training.lr",
    ],
)
def test_wrong_values_are_refused(override: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [override])
    assert str(caught.value)


def test_a_wrong_value_in_a_file_names_file_and_line(file: Path) -> None:
    file.write_text(TEXT.replace("steps = 7", 'steps = "seven"'))
    with pytest.raises(RecipeError, match=r"training\.steps") as caught:
        load_recipe(file)
    assert caught.value.where == f"{file}:4"


def test_every_problem_is_named() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, ["training.stepps=1", "policy.nme=x"])
    assert "training.stepps" in str(caught.value) and "policy.nme" in str(caught.value)


def test_missing_and_broken_files(tmp_path: Path, file: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist") as caught:
        load_recipe(tmp_path / "mi.toml")
    assert "my.toml" in str(caught.value.next_step)
    file.write_text("[training\nlr = 1")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(file)


def test_the_hash_covers_results_but_not_the_place() -> None:
    base = load_recipe(None).hash
    assert load_recipe(None, ["run.dir=elsewhere"]).hash == base
    assert load_recipe(None, ["run.seed=1"]).hash != base
    assert load_recipe(None, ["environment.options.max_terms=3"]).hash != base


@given(st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12), st.sampled_from(list(Recipe.model_fields)))
def test_no_unknown_key_is_ever_accepted(word: str, section: str) -> None:
    fields = Recipe.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    if word in fields:
        return
    with pytest.raises(RecipeError):
        load_recipe(None, [f"{section}.{word}=1"])
