"""Whatever the order in which groups end: the bound holds, nothing is used twice, nobody waits for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.training.schedule import Batch, Schedule, Waiting


def schedule(size: int = 2, staleness: int = 1, admission: str = "bounded", **more: int) -> Schedule:
    ahead = more.pop("max_ahead", size * (staleness + 1))
    return Schedule(
        groups_per_step=size,
        max_staleness=staleness,
        admission=admission,  # type: ignore[arg-type]
        max_ahead=ahead,
        **more,
    )


def waiting(*versions: int) -> list[Waiting]:
    return [Waiting(group_id=f"g{i}", version=version) for i, version in enumerate(versions)]


def room(rules: Schedule, groups: list[Waiting], in_play: int = 0, **state: int) -> int:
    known = {"learner": 0, "sampler": 0, "recorded": 0, "steps_left": 100}
    return rules.room(groups, in_play, **{**known, **state})


def test_there_is_room_for_what_the_steps_within_the_bound_can_use() -> None:
    rules = schedule(size=4, staleness=2)
    assert room(rules, []) == 12
    assert room(rules, waiting(0, 0), in_play=3) == 7
    assert room(rules, [], learner=5, sampler=5) == 12
    assert room(rules, [], learner=5, sampler=4) == 8  # what is begun now is a version older already
    assert room(rules, [], learner=5, sampler=2) == 0 == room(rules, [], learner=5, sampler=1)
    assert room(rules, waiting(0), in_play=11) == 0


def test_without_staleness_a_step_is_all_there_is_room_for() -> None:
    rules = schedule(size=4, staleness=0)
    assert room(rules, []) == 4 and room(rules, [], in_play=4) == 0
    assert room(rules, [], learner=1, sampler=0) == 0


def test_a_limit_the_end_of_the_run_and_recorded_steps_leave_less_room() -> None:
    assert room(schedule(size=2, staleness=3, max_ahead=5), waiting(0), in_play=1) == 3
    assert room(schedule(size=2, staleness=3), [], steps_left=1) == 2
    assert room(schedule(size=2, staleness=3), [], recorded=1, steps_left=2) == 2
    assert room(schedule(size=2, staleness=3), [], recorded=3) == 2
    assert room(schedule(size=2, staleness=3), [], recorded=4) == 0


def test_groups_that_will_not_be_used_take_no_room() -> None:
    old = waiting(0, 0, 5)
    assert room(schedule(size=2, staleness=1, admission="strict"), old, learner=5, sampler=5) == 3
    assert room(schedule(size=2, staleness=1, admission="corrected"), old, learner=5, sampler=5) == 1
    same = [Waiting(group_id="a", version=0, teaches=False)]
    assert room(schedule(max_constant=4), same) == 4 and room(schedule(), same) == 3


def test_the_oldest_groups_are_used_first_and_a_step_waits_for_enough() -> None:
    rules = schedule(size=2, staleness=4)
    assert rules.choose(waiting(0), [], learner=0) is None
    assert rules.choose(waiting(0, 1, 1), [], learner=1) == Batch(used=("g0", "g1"), stale=())


def test_strict_passes_over_what_is_too_old_and_says_so() -> None:
    rules = schedule(size=2, staleness=1, admission="strict")
    assert rules.choose(waiting(0, 3, 4), [], learner=4) == Batch(used=("g1", "g2"), stale=("g0",))
    assert rules.choose(waiting(0, 3), [], learner=4) is None  # the stale one waits with it


def test_corrected_uses_it() -> None:
    rules = schedule(size=2, staleness=1, admission="corrected")
    assert rules.choose(waiting(0, 3, 4), [], learner=4) == Batch(used=("g0", "g1"), stale=())
    assert rules.is_over(2, 4) and not rules.is_over(3, 4) and not rules.is_stale(0, 4)


def test_bounded_waits_for_a_slow_group_at_the_last_moment() -> None:
    rules = schedule(size=2, staleness=1)
    assert rules.choose(waiting(0, 0), [0], learner=0) is not None  # it can still be used at version 1
    assert rules.choose(waiting(1, 1), [0], learner=1) is None  # it could not at version 2
    assert rules.choose(waiting(0, 1, 1), [], learner=1) is not None
    assert schedule(size=2, staleness=1, admission="strict").choose(waiting(1, 1), [0], learner=1) is not None


def test_groups_that_teach_nothing_are_replaced_up_to_a_limit() -> None:
    rules = schedule(size=2, staleness=3, max_constant=2)
    flat = [Waiting(group_id=f"f{i}", version=0, teaches=False) for i in range(2)]
    assert rules.choose([flat[0], *waiting(0)], [], learner=0) is None
    assert rules.choose([flat[0], *waiting(0, 0)], [], learner=0) == Batch(used=("g0", "g1", "f0"), stale=())
    assert rules.choose([*flat, *waiting(0)], [], learner=0) == Batch(used=("g0", "f0", "f1"), stale=())
    assert schedule(size=2, staleness=3).choose(flat, [], learner=0) == Batch(used=("f0", "f1"), stale=())


@dataclass
class Model:
    """A run without a policy: groups have a version and end when they are told to."""

    rules: Schedule
    drains: bool
    steps: int
    learner: int = 0
    sampler: int = 0
    made: int = 0
    in_play: dict[str, int] = field(default_factory=dict)
    complete: list[Waiting] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    ages: list[int] = field(default_factory=list)
    pending: bool = False
    largest: int = 0

    def fill(self, learner: int) -> None:
        if self.pending:
            return
        order = sorted(self.complete, key=lambda g: g.version)
        left = self.steps - learner
        number = self.rules.room(
            order, len(self.in_play), learner=learner, sampler=self.sampler, recorded=0, steps_left=left
        )
        for _ in range(number):
            self.in_play[f"g{self.made}"] = self.sampler
            self.made += 1
        self.largest = max(self.largest, len(self.in_play) + len(self.complete))

    def end(self, name: str) -> None:
        self.complete.append(Waiting(group_id=name, version=self.in_play.pop(name)))
        if self.pending and not self.in_play:
            self.take()
        self.fill(self.learner)

    def take(self) -> None:
        self.sampler, self.pending = self.learner, False

    def learn(self) -> bool:
        order = sorted(self.complete, key=lambda g: g.version)
        batch = self.rules.choose(order, list(self.in_play.values()), learner=self.learner)
        if batch is None:
            return False
        assert len(batch.used) == self.rules.groups_per_step
        for name in (*batch.used, *batch.stale):
            assert name not in self.used, "consumed twice"
            self.used[name] = self.learner
        by_name = {g.group_id: g.version for g in self.complete}
        self.ages += [self.learner - by_name[name] for name in batch.used]
        self.complete = [g for g in self.complete if g.group_id not in self.used]
        self.fill(self.learner + 1)
        self.learner += 1
        if self.drains and self.in_play:
            self.pending = True
        else:
            self.take()
        self.fill(self.learner)
        return True


@pytest.mark.parametrize("admission", ["strict", "bounded", "corrected"])
@pytest.mark.parametrize("drains", [False, True])
@given(data=st.data())
def test_any_order_keeps_the_bound_and_comes_to_an_end(admission: str, drains: bool, data: st.DataObject) -> None:
    size, staleness = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3))
    ahead = data.draw(st.sampled_from([size, size + 1, size * (staleness + 1)]))
    rules = schedule(size, staleness, admission, max_ahead=ahead)
    run = Model(rules, drains, steps=6)
    run.fill(0)
    while run.learner < run.steps:
        can_end = bool(run.in_play)
        if can_end and data.draw(st.booleans()):
            run.end(data.draw(st.sampled_from(sorted(run.in_play))))
        elif not run.learn():
            assert run.in_play, "nothing is in play, and the learner waits"
            run.end(data.draw(st.sampled_from(sorted(run.in_play))))
        assert len(run.in_play) + len([g for g in run.complete if not rules.is_stale(g.version, run.learner)]) <= max(
            ahead, 0
        )
    if admission != "corrected":
        assert max(run.ages) <= staleness
    if admission == "bounded":
        assert len(run.used) == size * run.steps  # none was passed over
