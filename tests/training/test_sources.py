"""The recipe says where a step's groups come from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from askesis.store import Store
from askesis.training.asynchronous import Overlapping
from askesis.training.observe.observer import Observer
from askesis.training.parts import Parts
from askesis.training.playing import Player, StepByStep
from askesis.training.progress import open_progress
from askesis.training.rollouts import LocalRollouts
from askesis.training.rundir import RunDir
from askesis.training.sources import make_source
from small_run import parity, small


@pytest.mark.parametrize(("more", "kind"), [([], StepByStep), (["asynchronous.enabled=true"], Overlapping)])
def test_the_recipe_chooses(more: list[str], kind: type, tiny_folder: Path, tmp_path: Path) -> None:
    recipe = small(tiny_folder, tmp_path, *more).recipe
    progress, world = open_progress(json_output=True), parity()
    parts = Parts.load(recipe, tmp_path, progress)
    observer = Observer(recipe.observe, RunDir(tmp_path), "r", progress)
    with Store.open(tmp_path / "store.db") as store:
        rollouts = LocalRollouts(recipe, parts.policy, parts.sampler, world)
        player = Player(recipe, "r", store, rollouts, observer)
        assert isinstance(make_source(recipe, world, store, observer, parts, player, rollouts), kind)
        asyncio.run(parts.sampler.close())
