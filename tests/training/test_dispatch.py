"""Groups given out to workers: everyone exactly once, whoever is lost; and a loss that is not chance stops the run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.clock import VirtualClock
from askesis.errors import EngineError, RecipeError
from askesis.rollout import GroupSpec
from askesis.store import Group, Member
from askesis.trace import Failure, FailureOrigin, StopReason, Task, TraceBuilder, Verdict, VerdictStatus
from askesis.training.dispatch import TRIES, Dispatcher, Played
from askesis.training.published import Published
from askesis.training.ray_link import WorkerLost

FROZEN = "the rest of the model"


def weights(version: int) -> Published:
    return Published(version=version, content={}, digest=f"weights {version}")


def specs(count: int, purpose: str = "train") -> list[GroupSpec]:
    task = Task(key="t", environment="e", payload={})
    return [
        GroupSpec(group_id=f"R/{purpose}/0/{i}", run_id="R", purpose=purpose, step=0, task=task, size=1, seed=i)
        for i in range(count)
    ]


def played(spec: GroupSpec, version: int) -> Group:
    failure = Failure(origin=FailureOrigin.ENGINE, kind="none", message="nobody sampled")
    member = Member(
        member_index=0,
        seed=spec.seed,
        trace=TraceBuilder().finish(StopReason.FAILED, failure=failure),
        verdict=Verdict(status=VerdictStatus.ERROR, evaluator="e/1", error=failure),
        policy_version=version,
    )
    own = {"group_id": spec.group_id, "run_id": spec.run_id, "purpose": spec.purpose, "step": spec.step}
    return Group(task=spec.task, members=(member,), **own)


class Here:
    """A pool that only lets time pass. The calls with the numbers in ``losses``, over all, lose their worker."""

    def __init__(
        self,
        size: int,
        *,
        losses: frozenset[int] = frozenset(),
        seconds: Callable[[GroupSpec], float] = lambda spec: 1.0,
    ) -> None:
        self.size = size
        self.losses, self.seconds = losses, seconds
        self.holds: dict[int, int | None] = {}
        self.at: dict[int, list[str]] = {}
        self.calls = 0
        self.played: list[tuple[int, str, int]] = []
        self.loads: list[tuple[int, int]] = []
        self.lost_over: list[str] = []
        self.most = 0
        self.start_error: Exception | None = None
        self.closed = False

    async def start(self, place: int) -> str:
        self.holds[place], self.at[place] = None, []
        await asyncio.sleep(0.5)
        self._count("start", place)
        if self.start_error is not None:
            raise self.start_error
        return FROZEN

    async def load(self, place: int, weights: Published) -> str:
        assert not self.at[place], "weights were changed under a group in play"
        await asyncio.sleep(0.1)
        self._count("load", place)
        self.holds[place] = weights.version
        self.loads.append((place, weights.version))
        return weights.digest

    async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
        assert self.holds[place] == version
        everywhere = [name for names in self.at.values() for name in names]
        assert spec.group_id not in everywhere, "two workers play one group"
        mine = self.at[place]
        mine.append(spec.group_id)
        self.most = max(self.most, len(mine))
        await asyncio.sleep(self.seconds(spec) / 2)
        if self.at[place] is mine:
            self._count(spec.group_id, place)
        await asyncio.sleep(self.seconds(spec) / 2)
        if self.at[place] is not mine:
            raise WorkerLost(cause="its process ended")
        mine.remove(spec.group_id)
        self.played.append((place, spec.group_id, version))
        return Played(played(spec, version))

    async def close(self) -> None:
        self.closed = True

    def _count(self, what: str, place: int) -> None:
        self.calls += 1
        if self.calls in self.losses:
            self.at[place] = []  # with everything that it played
            self.lost_over.append(what)
            raise WorkerLost(cause=f"loss of call {self.calls}")


def dispatcher(pool: Any, *, per_worker: int = 1, wanted: Callable[[str], Published] | None = None) -> Any:
    said: list[str] = []
    made = Dispatcher(
        pool, wanted=wanted or (lambda purpose: weights(0)), frozen=FROZEN, per_worker=per_worker, warn=said.append
    )
    return made, said


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return VirtualClock().run(main)


async def play_all(made: Dispatcher, what: list[GroupSpec]) -> list[Group]:
    try:
        return list(await asyncio.gather(*(made.play(spec) for spec in what)))
    finally:
        await made.close()


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 4),
    count=st.integers(1, 12),
    per_worker=st.integers(1, 3),
    losses=st.frozensets(st.integers(1, 40), max_size=20),
    seconds=st.lists(st.floats(0.1, 30.0), min_size=12, max_size=12),
)
def test_whatever_is_lost_every_group_comes_back_exactly_once(
    size: int, count: int, per_worker: int, losses: frozenset[int], seconds: list[float]
) -> None:
    pool = Here(size, losses=losses, seconds=lambda spec: seconds[spec.seed])
    made, _ = dispatcher(pool, per_worker=per_worker)
    wanted = specs(count)
    try:
        groups = run(play_all(made, wanted))
    except EngineError as error:
        assert "in a row" in error.what
        assert len(pool.lost_over) >= TRIES
        return
    assert [g.group_id for g in groups] == [s.group_id for s in wanted]
    assert Counter(name for _, name, _ in pool.played) == Counter(s.group_id for s in wanted)
    assert pool.most <= per_worker
    assert made.lost == len(pool.lost_over) and pool.closed


def test_a_slow_group_holds_up_its_own_worker_only() -> None:
    pool = Here(2, seconds=lambda spec: 100.0 if spec.seed == 0 else 1.0)
    made, said = dispatcher(pool)
    run(play_all(made, specs(20)))
    by_place = Counter(place for place, _, _ in pool.played)
    assert sorted(by_place.values()) == [1, 19]
    assert any("R/train/0/0" in text and "unusually long" in text for text in said)


def test_unusually_long_is_twice_the_usual() -> None:
    pool = Here(1, seconds=lambda spec: 100.0 if spec.seed == 5 else 10.0)
    heard: list[tuple[float, str]] = []
    clock = VirtualClock()
    made = Dispatcher(
        pool,
        wanted=lambda purpose: weights(0),
        frozen=FROZEN,
        per_worker=1,
        warn=lambda text: heard.append((clock.now(), text)),
    )
    clock.run(play_all(made, specs(6)))
    ((when, text),) = heard
    assert when == pytest.approx(0.5 + 0.1 + 5 * 10 + 20)
    assert text == "worker 0 has been playing R/train/0/5 for 20 s, unusually long"


def test_three_losses_over_one_group_stop_the_run_with_the_cause() -> None:
    class Deadly(Here):
        async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
            raise WorkerLost(cause=f"loss of call {self.calls}: no memory")

    made, said = dispatcher(Deadly(2))
    with pytest.raises(EngineError, match="3 workers in a row were lost over the same group") as caught:
        run(play_all(made, specs(1)))
    assert "no memory" in str(caught.value) and "R/train/0/0" in str(caught.value)
    assert sum("was lost and is replaced" in text for text in said) == 3


def test_a_loss_over_one_group_is_not_counted_against_those_beside_it() -> None:
    class Deadly(Here):
        def _count(self, what: str, place: int) -> None:
            if len(self.lost_over) < 3 and what == f"R/train/0/{len(self.lost_over)}":
                self.losses = frozenset({self.calls + 1})
            super()._count(what, place)

    pool = Deadly(1)
    made, _ = dispatcher(pool, per_worker=4)
    groups = run(play_all(made, specs(4)))
    assert len(groups) == 4 and made.lost == len(pool.lost_over) == 3
    assert made.repeated > made.lost  # groups beside it were played again, and not blamed


def test_no_worker_comes_up() -> None:
    made, said = dispatcher(Here(2, losses=frozenset(range(1, 99))))
    with pytest.raises(EngineError, match="no worker comes up") as caught:
        run(play_all(made, specs(3)))
    assert "loss of call" in str(caught.value)
    assert any("while it started" in text for text in said)


def test_a_place_that_cannot_be_filled_does_not_stop_the_others() -> None:
    class Short(Here):
        async def start(self, place: int) -> str:
            if place == 1:
                await asyncio.sleep(50.0)
                raise WorkerLost(cause="no room in the cluster")
            return await super().start(place)

    pool = Short(2)
    made, said = dispatcher(pool)
    assert len(run(play_all(made, specs(200)))) == 200
    assert {place for place, _, _ in pool.played} == {0}
    assert any("no room in the cluster" in text for text in said)


def test_an_error_of_ours_comes_back_as_itself() -> None:
    pool = Here(2)
    pool.start_error = RecipeError("there is no environment called 'x'")
    made, _ = dispatcher(pool)
    with pytest.raises(RecipeError, match="no environment called"):
        run(play_all(made, specs(3)))

    class Bad(Here):
        async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
            raise EngineError("the logits are not finite")

    made, _ = dispatcher(Bad(2))
    with pytest.raises(EngineError, match="not finite"):
        run(play_all(made, specs(3)))


def test_a_worker_that_cannot_be_started_for_another_reason_is_told_of() -> None:
    pool = Here(1)
    pool.start_error = ZeroDivisionError("odd")
    made, _ = dispatcher(pool)
    with pytest.raises(EngineError, match="cannot be started") as caught:
        run(play_all(made, specs(1)))
    assert "ZeroDivisionError: odd" in str(caught.value)


def test_workers_with_other_weights_or_another_model_are_named() -> None:
    class Stale(Here):
        async def load(self, place: int, weights: Published) -> str:
            await super().load(place, weights)
            return "weights of yesterday" if place == 1 else weights.digest

    made, _ = dispatcher(Stale(2))
    with pytest.raises(EngineError, match="does not hold the run's weights") as caught:
        run(play_all(made, specs(4)))
    assert "worker 1, version 0" in str(caught.value)

    class Other(Here):
        async def start(self, place: int) -> str:
            await super().start(place)
            return "another model"

    made, _ = dispatcher(Other(1))
    with pytest.raises(EngineError, match="another model than the run's"):
        run(play_all(made, specs(1)))


def test_a_worker_that_plays_something_else_is_named() -> None:
    class Liar(Here):
        async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
            group = (await super().play(place, spec, version)).group
            return Played(replace(group, members=(replace(group.members[0], policy_version=version - 1),)))

    made, _ = dispatcher(Liar(1))
    with pytest.raises(EngineError, match="something else than it was asked for") as caught:
        run(play_all(made, specs(1)))
    assert "version [-1]" in str(caught.value)


def test_weights_that_change_while_groups_are_in_play_reach_the_next_groups() -> None:
    now = {"version": 0}
    pool = Here(2, seconds=lambda spec: 10.0)
    made, _ = dispatcher(pool, per_worker=2, wanted=lambda purpose: weights(now["version"]))

    async def main() -> list[Group]:
        loop = asyncio.get_running_loop()
        loop.call_later(5.0, now.update, {"version": 1})
        return await play_all(made, specs(8))

    groups = run(main())
    versions = [g.members[0].policy_version for g in groups]
    assert versions == [0] * 4 + [1] * 4
    assert sorted(pool.loads) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_each_purpose_gets_its_own_weights() -> None:
    pool = Here(2)
    made, _ = dispatcher(pool, wanted=lambda purpose: weights(0 if purpose == "train" else 3))
    groups = run(play_all(made, [*specs(3), *specs(3, "evaluation")]))
    assert [g.members[0].policy_version for g in groups] == [0, 0, 0, 3, 3, 3]


def test_a_cancelled_group_leaves_its_worker_to_others() -> None:
    pool = Here(1, seconds=lambda spec: 1000.0 if spec.seed == 0 else 1.0)
    made, _ = dispatcher(pool)

    async def main() -> list[Group]:
        first, *others = [asyncio.create_task(made.play(spec)) for spec in specs(3)]
        await asyncio.sleep(2.0)
        first.cancel()
        pool.at[0].clear()
        groups = [await task for task in others]
        with pytest.raises(asyncio.CancelledError):
            await first
        await made.close()
        return groups

    assert [g.group_id for g in run(main())] == ["R/train/0/1", "R/train/0/2"]


def test_nothing_is_in_play_while_it_is_held() -> None:
    pool = Here(2, seconds=lambda spec: 5.0)
    made, _ = dispatcher(pool)

    async def main() -> tuple[int, int]:
        tasks = [asyncio.create_task(made.play(spec)) for spec in specs(4)]
        await asyncio.sleep(1.0)
        async with made.held():
            ended = len(pool.played)
            await asyncio.sleep(50.0)
            later = len(pool.played)
        await asyncio.gather(*tasks)
        await made.close()
        return ended, later

    assert run(main()) == (2, 2) and len(pool.played) == 4
