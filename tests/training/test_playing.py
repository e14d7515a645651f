"""Groups of a step are sampled once, and come from the store afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from askesis.errors import AskesisError, CheckpointError
from askesis.recipe import Recipe, load_recipe
from askesis.rollout import GroupSpec, Outcome
from askesis.store import Group, Member, RunRecord, Store
from askesis.trace import Failure, FailureOrigin, StopReason, TraceBuilder, Verdict, VerdictStatus
from askesis.training.observe.observer import Observer
from askesis.training.playing import Player, stored
from askesis.training.progress import open_progress
from askesis.training.rundir import RunDir
from small_run import parity

GOOD = Verdict(status=VerdictStatus.OK, evaluator="e/1", rewards={"r": (1.0, 1.0)})
BAD = Verdict(
    status=VerdictStatus.ERROR,
    evaluator="e/1",
    error=Failure(origin=FailureOrigin.ENVIRONMENT, kind="Broken", message="no"),
)


class Counting:
    """Plays nothing, and notes what it was asked for."""

    def __init__(self, verdict: Verdict) -> None:
        self.asked: list[str] = []
        self._verdict = verdict

    async def play(
        self, specs: Sequence[GroupSpec], *, on_session: Callable[[Outcome], None] | None = None
    ) -> list[Group]:
        self.asked += [spec.group_id for spec in specs]
        trace = TraceBuilder().finish(StopReason.TERMINATED)
        member = Member(member_index=0, seed=0, trace=trace, verdict=self._verdict)
        return [
            Group(group_id=s.group_id, run_id=s.run_id, purpose=s.purpose, step=s.step, task=s.task, members=(member,))
            for s in specs
        ]


def play(folder: Path, verdict: Verdict, times: int) -> tuple[list[str], list[list[str]]]:
    recipe: Recipe = load_recipe(None, []).recipe
    tasks = [parity().tasks.task("train", i) for i in range(2)]
    with Store.open(folder / "store.db") as store:
        store.add_run(RunRecord(run_id="r", recipe_hash="h", recipe={}, seed=0, versions={}))
        rollouts = Counting(verdict)
        observer = Observer(recipe.observe, RunDir(folder), "r", open_progress(json_output=True))
        player = Player(recipe, "r", store, rollouts, observer)
        found = [asyncio.run(player.groups("train", 4, tasks, 1)) for _ in range(times)]
        assert store.num_ready("r") == 2
        with pytest.raises(CheckpointError, match="lacks a group"):
            stored(store, "r/train/000009/0000")
    return rollouts.asked, [[g.group_id for g in groups] for groups in found]


def test_a_second_call_takes_them_from_the_store(tmp_path: Path) -> None:
    names = ["r/train/000004/0000", "r/train/000004/0001"]
    assert play(tmp_path, GOOD, 2) == (names, [names, names])


def test_nothing_is_kept_when_every_session_failed(tmp_path: Path) -> None:
    with pytest.raises(AskesisError, match="every session failed"):
        play(tmp_path, BAD, 1)
    with Store.open(tmp_path / "store.db") as store:
        assert store.num_ready("r") == 0
