"""What the claim about the memory measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from askesis.claims import memsearcher
from askesis.claims.memsearcher import HORIZONS, STUDY, at_horizon, turn_bias
from askesis.claims.running import make_runs
from askesis.recipe import load_recipe


def test_arms_differ_in_context_and_weights_only() -> None:
    plans = STUDY.plans(STUDY.scale("laptop"), seeds=1, folder=Path("nowhere"))  # refuses unequal budgets
    recipes = {plan.arm: load_recipe(None, plan.overrides).recipe for plan in plans}
    contexts = {name: recipe.agent.context for name, recipe in recipes.items()}
    assert contexts["everything"] == "full" and contexts["window"] == "window"
    assert {context for name, context in contexts.items() if name.startswith("memory")} == {"compact_memory"}
    assert max(HORIZONS) > recipes["memory"].environment.options["max_hops"]


def summary(num_sampled: int, num_calls: int) -> Any:
    return SimpleNamespace(num_sampled=num_sampled, num_calls=num_calls)


@pytest.mark.parametrize(
    ("aggregation", "bias"),
    [
        # 1 and 5 replies, 3 in the mean. 10 and 50 tokens: (10 + 250) / 60 / 3. 1 and 3 contexts: (1 + 15) / 4 / 3.
        ("token_mean", 260 / 60 / 3),
        ("row_mean", 16 / 4 / 3),
        ("seq_mean_token_mean", 1.0),
    ],
)
def test_the_bias_by_hand(aggregation: str, bias: float) -> None:
    weight = memsearcher._WEIGHTS[aggregation]
    episodes = [(weight(s), s.num_calls) for s in (summary(10, 1), summary(50, 5))]
    assert memsearcher._over_plain_mean(episodes) == pytest.approx(bias)
    assert memsearcher._over_plain_mean([(0.0, 1)]) is None


@pytest.mark.opt_in
def test_what_is_measured_of_a_run(tiny_folder: Path, tmp_path: Path) -> None:
    # The tiny model's context is too short for the long questions that are played of every run.
    small = replace(STUDY, recipe={**STUDY.recipe, "policy.name": str(tiny_folder)}, measure=None)
    plans = small.plans(STUDY.scale("smoke"), seeds=1, folder=tmp_path)
    runs = make_runs(plans[:2], workers=0, notify=lambda plan, outcome: None)
    for run in runs:
        lengths = at_horizon(2, "peak_context")(run)
        assert len(lengths) == len(at_horizon(2, "f1")(run)) == 2
        assert all(length is not None and length > 20 for length in lengths)
        assert [bias is not None and bias > 0 for bias in turn_bias(run)] == [True, True]
    # Played once: what is kept is what is read.
    (runs[0].path / "horizon-2.json").write_text(json.dumps({"f1": [0.25]}))
    assert at_horizon(2, "f1")(runs[0]) == [0.25]
