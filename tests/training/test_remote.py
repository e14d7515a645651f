"""Workers that follow a run by themselves: the same bits as one process, whoever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from askesis.errors import EngineError
from askesis.recipe import Recipe
from askesis.store import Group, Store
from askesis.training import ray_pool
from askesis.training.remote import Base, PopulationWorker, RemoteEvaluator, Scores, WorkerLost, _parts
from evolving_runs import final, groups_of, parity, small, start
from small_run import Interrupted


class Here:
    """A pool whose workers live in this process. ``losses`` says at which calls, counted over all, one is lost."""

    losses: frozenset[int] = frozenset()
    spoil = False

    def __init__(self, recipe: Recipe, run_id: str, base: Base) -> None:
        self._start = (recipe.model_dump(), run_id, base)
        self.size = recipe.cluster.workers
        self.workers: dict[int, PopulationWorker] = {}
        self.calls = 0

    async def start(self, place: int, history: Sequence[Scores]) -> None:
        self.workers[place] = PopulationWorker(*self._start, history)

    async def evaluate(self, place: int, step: int, first: int, count: int) -> list[list[Group]]:
        self._count()
        return await self.workers[place].evaluate(step, first, count)

    async def tell(self, place: int, scores: Scores) -> str:
        self._count()
        if self.spoil and place == 1:
            scores = [None if score is None else 1 - score for score in scores]
            scores = [*scores[1:], scores[0]]
        return await self.workers[place].tell(scores)

    async def close(self) -> None:
        self.workers.clear()

    def _count(self) -> None:
        self.calls += 1
        if self.calls in self.losses:
            raise WorkerLost(cause="for the test")


def run(folder: Path, place: Path, *more: str) -> tuple[dict[str, bytes], object]:
    """The final weights, and every session."""
    start(small(folder, place, "evaluation.num_tasks=0", *more))
    return final(place)[0], groups_of(place)


@pytest.fixture(scope="module")
def local(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], object]:
    """What one process comes to."""
    return run(tiny_folder, tmp_path_factory.mktemp("local"))


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    class Pool(Here):
        pass

    monkeypatch.setattr(ray_pool, "RayPool", Pool)
    monkeypatch.setattr("askesis.training.remote.open_world", lambda recipe: parity())
    return Pool


@pytest.mark.parametrize(
    ("workers", "losses"),
    [
        pytest.param(1, (1, 2), marks=pytest.mark.opt_in),
        (2, (4, 9, 10, 15)),
        pytest.param(2, (), marks=pytest.mark.opt_in),
    ],
)
def test_a_run_by_workers_is_the_run_of_one_process(
    workers: int,
    losses: tuple[int, ...],
    local: object,
    remote: type[Here],
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    remote.losses = frozenset(losses)
    assert run(tiny_folder, tmp_path, "cluster.kind=ray", f"cluster.workers={workers}") == local


def test_a_worker_with_other_weights_stops_the_run(remote: type[Here], tiny_folder: Path, tmp_path: Path) -> None:
    remote.spoil = True
    with pytest.raises(EngineError, match="weights are not the run's") as caught:
        run(tiny_folder, tmp_path / "run", "cluster.kind=ray")
    assert "worker 1" in str(caught.value)


def test_the_same_loss_again_and_again_stops_the_run(remote: type[Here], tiny_folder: Path, tmp_path: Path) -> None:
    remote.losses = frozenset(range(1, 99))
    with pytest.raises(EngineError, match="3 workers in a row") as caught:
        run(tiny_folder, tmp_path / "run", "cluster.kind=ray", "cluster.workers=1")
    assert "for the test" in str(caught.value)


@pytest.mark.opt_in
def test_rewards_alone_are_enough(
    local: tuple[object, object], remote: type[Here], tiny_folder: Path, tmp_path: Path
) -> None:
    more = ["cluster.kind=ray", "cluster.keep_sessions=false"]
    found, _ = run(tiny_folder, tmp_path / "remote", *more)
    assert found == local[0]
    with Store.open(tmp_path / "remote" / "store.db", read_only=True) as store:
        members = [m for g in store.groups(store.runs()[0].record.run_id, purpose="train") for m in g.members]
    assert all(not m.trace.calls and m.trace.events[0]["tokens"] > 0 and m.verdict.reward is not None for m in members)


@pytest.mark.opt_in
def test_a_run_resumed_between_its_two_populations(
    local: object, remote: type[Here], tiny_folder: Path, tmp_path: Path
) -> None:
    def stop(self: RemoteEvaluator, scores: Scores) -> None:
        raise Interrupted

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RemoteEvaluator, "told", stop)  # the first population is in the store by then
        run(tiny_folder, tmp_path / "remote", "cluster.kind=ray")
    assert run(tiny_folder, tmp_path / "remote", "cluster.kind=ray") == local


def test_shares_are_whole_batches() -> None:
    assert _parts(8, 2, 1) == [(0, 4), (4, 4)]
    assert _parts(7, 3, 1) == [(0, 2), (2, 2), (4, 3)]
    assert _parts(8, 2, 3) == [(0, 3), (3, 5)]
    assert _parts(2, 4, 1) == [(0, 1), (1, 1)]
    assert _parts(5, 2, 8) == [(0, 5)]


def test_nothing_is_started_before_it_is_needed() -> None:
    class Untouched:
        size = 2

        async def close(self) -> None:
            self.closed = True

    pool = Untouched()
    evaluator = RemoteEvaluator(None, pool, side_by_side=1)  # type: ignore[arg-type]

    async def end() -> None:
        await evaluator.told([1.0, 0.0])
        await evaluator.close()

    asyncio.run(end())
    assert pool.closed
