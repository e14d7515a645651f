"""What a recipe may say of asynchronous training, and what contradicts itself."""

from __future__ import annotations

import pytest

from askesis.errors import RecipeError
from askesis.recipe import AsynchronousSection, load_recipe

ON = "asynchronous.enabled=true"


def test_it_is_off_unless_asked_for() -> None:
    section = load_recipe(None, []).recipe.asynchronous
    assert section == AsynchronousSection() and not section.enabled
    assert load_recipe(None, [ON]).recipe.asynchronous.partial_rollouts
    assert load_recipe(
        None, [ON, "asynchronous.partial_rollouts=false", "cluster.kind=ray"]
    ).recipe.asynchronous.enabled


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["asynchronous.max_staleness=3"], "set asynchronous.enabled=true"),
        ([ON, "asynchronous.max_weight=3.0"], "admission=bounded weighs nothing"),
        ([ON, "training.staleness=2"], "training.staleness=2"),
        ([ON, "learner.kind=evolution"], "learner.kind=gradient"),
        ([ON, "asynchronous.max_ahead=3", "rollout.groups_per_step=4"], "max_ahead=3"),
        ([ON, "sampling.top_p=0.9"], "importance ratio"),
        ([ON, "sampling.top_k=5", "asynchronous.admission=corrected"], "importance ratio"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(None, overrides)


def test_a_distribution_that_is_cut_needs_fresh_samples() -> None:
    recipe = load_recipe(None, [ON, "asynchronous.max_staleness=0", "sampling.top_k=5"]).recipe
    assert recipe.sampling.top_k == 5
