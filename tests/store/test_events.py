"""Writes are idempotent, and nothing is ever replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from askesis.errors import StoreConflict, StoreError, TraceError
from askesis.store import Group, RunRecord, Store
from askesis.trace import Task, Verdict, VerdictStatus

Make = Callable[..., Group]
both = pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
"""The same test in a file and on a server."""


def ok(value: float, evaluator: str = "late/1") -> Verdict:
    return Verdict(status=VerdictStatus.OK, evaluator=evaluator, rewards={"r": (value, 1.0)})


def changed(group: Group, **values: object) -> Group:
    first, *others = group.members
    return replace(group, members=(replace(first, **values), *others))


@both
def test_a_run_is_stored_once(store: Store, run: RunRecord) -> None:
    head = store.head()
    store.add_run(run)
    assert store.head() == head
    for change in ({"seed": 8}, {"recipe": {"lr": 0.2}}, {"recipe_hash": "z"}, {"versions": {}}):
        with pytest.raises(StoreConflict, match="another run has this name") as error:
            store.add_run(replace(run, **change))
        assert error.value.where == "run R"
    assert store.head() == head


@both
def test_a_group_is_stored_once(store: Store, group: Make) -> None:
    new = group(1)
    store.append_group(new)
    head = store.head()
    store.append_group(new)
    store.append_group(changed(new, duration_s=99.0))  # a replay takes another time, and is the same group
    assert store.head() == head
    other = group(2)
    changes = {
        "trace R/train/000001/000/0": [
            changed(new, seed=1),
            changed(new, trace=other.members[0].trace),
            changed(new, policy_version=0),
        ],
        "verdict R/train/000001/000/0#0": [changed(new, verdict=ok(0.0))],
        "group R/train/000001/000": [
            replace(new, step=2),
            replace(new, purpose="x"),
            replace(new, task=other.task),
            replace(new, members=new.members[:2]),
            replace(new, members=()),
            replace(new, members=(*new.members, *group(1, members=4).members[3:])),
        ],
    }
    for where, groups in changes.items():
        for bad in groups:
            with pytest.raises(StoreConflict, match="already stored with other content") as error:
                store.append_group(bad)
            assert error.value.where == where
    assert store.head() == head and store.verify().ok


@both
def test_a_replay_after_a_later_verdict_is_the_same_group(store: Store, group: Make) -> None:
    store.append_group(group(1))
    store.append_verdict("R/train/000001/000/2", ok(1.0))
    head = store.head()
    store.append_group(group(1))
    assert store.head() == head


@both
def test_groups_share_a_task(store: Store, group: Make) -> None:
    store.append_group(group(1))
    size = store.head().size
    store.append_group(replace(group(2), task=group(1).task))
    assert store.head().size == size + 1 + 2 * 3
    stored = store.group("R/train/000002/000")
    assert stored is not None and stored.task == group(1).task and store.verify().ok


@both
def test_a_group_needs_its_run_and_distinct_members(store: Store, group: Make) -> None:
    with pytest.raises(StoreError, match="no such run") as error:
        store.append_group(group(1, run_id="S"))
    assert error.value.next_step == "call add_run first"
    twice = replace(group(1), members=group(1).members[:1] * 2)
    with pytest.raises(StoreError, match="two members of a group have the same index"):
        store.append_group(twice)
    for bad in ("", "a\nb"):
        with pytest.raises(StoreError, match="cannot be used as a name"):
            store.append_group(replace(group(1), group_id=bad))
    for bad_number in ({"seed": 2**63}, {"member_index": 1.5}):
        with pytest.raises(StoreError, match="does not fit"):
            store.append_group(changed(group(1), **bad_number))
    with pytest.raises(StoreError, match="duration"):
        store.append_group(changed(group(1), duration_s=float("nan")))
    with pytest.raises(TraceError, match="cannot be written as JSON"):
        store.append_group(replace(group(1), task=Task(key="k", environment="e", payload={"x": {1, 2}})))
    assert store.head().size == 1 and list(store.groups("R")) == []


@both
def test_verdicts_are_appended_and_the_latest_counts(store: Store, group: Make) -> None:
    store.append_group(group(1))
    trace = "R/train/000001/000/1"
    first = group(1).members[1].verdict
    head = store.head()
    assert store.append_verdict(trace, first) == 0 and store.head() == head
    assert store.append_verdict(trace, ok(0.5)) == 1
    assert store.append_verdict(trace, ok(0.5)) == 1
    assert store.append_verdict(trace, first) == 2
    assert store.append_verdict(trace, ok(0.25)) == 3
    assert store.verdicts(trace) == [first, ok(0.5), first, ok(0.25)]
    stored = store.group("R/train/000001/000")
    assert stored is not None
    assert [m.verdict for m in stored.members] == [group(1).members[0].verdict, ok(0.25), group(1).members[2].verdict]
    for missing in ("R/train/000001/000/7", "x"):
        with pytest.raises(StoreError, match="no such trace"):
            store.append_verdict(missing, ok(1.0))


@both
def test_a_group_is_consumed_exactly_once(store: Store, group: Make) -> None:
    names = [group(i).group_id for i in range(3)]
    for i in range(3):
        store.append_group(group(i))
    store.consume("R", names[:2], step=1)
    head = store.head()
    store.consume("R", [names[1], names[0], names[0]], step=1)
    assert store.head() == head
    with pytest.raises(StoreConflict, match="already consumed by another step") as error:
        store.consume("R", [names[2], names[0]], step=2)
    assert error.value.where == f"group {names[0]}" and error.value.expected == "step 1"
    assert store.consumed("R") == {names[0]: 1, names[1]: 1}  # nothing of the refused call was kept
    store.consume("R", names[2:], step=2)
    assert store.consumed("R") == {names[0]: 1, names[1]: 1, names[2]: 2}
    assert store.consumed("nobody") == {}


@both
def test_another_run_may_consume_the_group_too(store: Store, group: Make) -> None:
    store.add_run(RunRecord(run_id="S", recipe_hash="x", recipe={}, seed=1, versions={}))
    store.append_group(group(1))
    store.consume("R", [group(1).group_id], step=1)
    store.consume("S", [group(1).group_id], step=5)
    assert store.consumed("S") == {group(1).group_id: 5}


@both
def test_unknown_names_are_refused(store: Store, group: Make) -> None:
    with pytest.raises(StoreError, match="no such group"):
        store.consume("R", ["nothing"], step=1)
    for write in (
        lambda: store.consume("S", [], step=1),
        lambda: store.log_metrics("S", 1, {"x": 1.0}),
        lambda: store.set_run_status("S", "failed"),
    ):
        with pytest.raises(StoreError, match="no such run"):
            write()
    with pytest.raises(StoreError, match="unknown status"):
        store.set_run_status("R", "sleeping")
    with pytest.raises(StoreError, match="metric name"):
        store.log_metrics("R", 1, {"a\0": 1.0})
    assert store.metrics("R") == {}
