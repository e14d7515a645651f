"""Equal tokens for every arm, and what is read of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from askesis.claims.oases import STUDY, gain_area, value_after
from askesis.recipe import load_recipe
from askesis.training.pieces import check_learner
from askesis.training.preflight import open_world
from askesis.training.rundir import write_json


def test_all_arms_have_the_same_tokens_and_can_be_built() -> None:
    for scale in STUDY.scales.values():
        plans = STUDY.plans(scale, seeds=1, folder=Path("runs"))
        recipes = [load_recipe(None, plan.overrides).recipe for plan in plans]
        assert len(recipes) == len(STUDY.arms)
        assert len({r.training.max_sampled_tokens for r in recipes}) == 1 and recipes[0].training.max_sampled_tokens
        for recipe in recipes:
            check_learner(recipe)
    assert open_world(recipes[0]).answer_mode is not None


def test_arms_without_gains_are_at_chance(make_run: Any) -> None:
    run = make_run("ppo", 0, [0])
    assert gain_area(run) == [0.5]
    scored = replace(run, series={**run.series, "gain_auc": ((1, 0.6), (2, None), (3, 0.8))})
    assert gain_area(scored) == [0.7]


def test_an_episode_that_ended_earlier_counts_with_its_last_state(make_run: Any, tmp_path: Path) -> None:
    run = replace(make_run("ppo", 0, [0]), path=tmp_path)
    write_json(tmp_path / "state-values.json", [[0.0, 0.5, 1.0], [1.0], []])
    assert [value_after(n)(run) for n in range(3)] == [[0.0, 1.0, None], [0.5, 1.0, None], [1.0, 1.0, None]]
