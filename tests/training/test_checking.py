"""When a run checks itself. What it checks is tested in test_selfcheck.py, what becomes of it in test_loop.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from askesis.errors import SelfCheckError
from askesis.policy.loading import Policy
from askesis.training.checking import Checks
from askesis.training.observe.observer import Observer
from askesis.training.pieces import make_learner
from askesis.training.progress import open_progress
from askesis.training.rundir import RunDir
from askesis.training.sampler import Sampler
from small_run import small


def checks(policy: Policy, folder: Path, *more: str) -> tuple[Checks, Sampler]:
    recipe = small("unused", folder, *more).recipe
    sampler = Sampler(policy, max_batch=8, staleness=1)
    observer = Observer(recipe.observe, RunDir(folder), "r", open_progress(json_output=True))
    return Checks(recipe, RunDir(folder), sampler, observer), sampler


def test_the_first_step_is_checked_and_then_as_often_as_the_recipe_says(tiny: Policy, tmp_path: Path) -> None:
    one, sampler = checks(tiny, tmp_path, "training.self_check_every=3")
    assert one.is_due(7)
    one._checked = True
    assert [step for step in range(7) if one.is_due(step)] == [0, 3, 6]
    other, _ = checks(tiny, tmp_path, "training.self_check_every=0")
    other._checked = True
    assert not any(other.is_due(step) for step in range(7))
    asyncio.run(sampler.close())


def test_weights_of_another_version_are_not_compared(tiny: Policy, tmp_path: Path) -> None:
    one, sampler = checks(tiny, tmp_path)
    learner = make_learner(small("unused", tmp_path).recipe, tiny)
    learner.version = 1
    asyncio.run(one.before_update(learner, [], 0))  # would raise without a sample
    assert one.is_due(0) and not RunDir(tmp_path).state_file.exists()
    asyncio.run(sampler.close())


def test_drift_above_the_limit_is_an_error(tiny: Policy, tmp_path: Path) -> None:
    one, sampler = checks(tiny, tmp_path)
    one.watch_drift(None, 3)
    one.watch_drift(1e-3, 3)
    with pytest.raises(SelfCheckError, match="drifted"):
        one.watch_drift(1.1e-3, 3)
    asyncio.run(sampler.close())
