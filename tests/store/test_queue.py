"""Complete groups are claimed exactly once, whoever asks and however often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from askesis.errors import StoreConflict, StoreError
from askesis.store import Finding, Group, RunRecord, Store
from askesis.store.queue import problems
from askesis.trace import Verdict, VerdictStatus

Make = Callable[..., Group]
both = pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
"""The same test in a file and on a server."""

GOOD = Verdict(status=VerdictStatus.OK, evaluator="late/1", rewards={"r": (1.0, 1.0)})
LATER = Verdict(status=VerdictStatus.PENDING, evaluator="late/1", due_at=9.0)


def name(number: int, purpose: str = "train") -> str:
    return f"R/{purpose}/{number:06d}/000"


def add(store: Store, group: Make, numbers: list[int], **options: str) -> None:
    store.append_groups([group(n, members=1, **options) for n in numbers])


@both
def test_a_step_gets_exactly_what_it_asked_for_or_nothing(store: Store, group: Make) -> None:
    add(store, group, [3, 1, 2])
    add(store, group, [0], purpose="evaluation")
    head = store.head()
    assert store.claim("R", step=0, count=4) == [] and store.head() == head and store.num_ready("R") == 3
    assert store.claim("R", step=0, count=0) == []
    assert store.claim("R", step=0, count=2) == [name(1), name(2)]  # the oldest step first
    assert store.claim("R", step=0, count=2) == [name(1), name(2)]  # the same call, the same groups
    assert store.claim("R", step=1, count=1) == [name(3)]
    assert store.claim("R", step=2, count=1) == [] and store.num_ready("R") == 0
    assert store.num_ready("R", purpose="evaluation") == 1
    assert store.consumed("R") == {name(1): 0, name(2): 0, name(3): 1}
    assert store.head().size == head.size + 3 and store.verify().ok


@both
def test_what_a_step_has_counts(store: Store, group: Make) -> None:
    add(store, group, [1, 2, 3])
    store.consume("R", [name(2)], step=7)
    assert store.claim("R", step=7, count=3) == [name(2), name(1), name(3)]
    with pytest.raises(StoreConflict, match="already consumed by another step"):
        store.consume("R", [name(3)], step=8)
    assert store.verify().ok


@both
def test_groups_that_are_too_old_stay_where_they_are(store: Store, group: Make) -> None:
    add(store, group, [1, 2, 3])
    assert store.num_ready("R", oldest_step=2) == 2
    assert store.claim("R", step=9, count=2, oldest_step=2) == [name(2), name(3)]
    assert store.claim("R", step=10, count=1, oldest_step=2) == []
    assert store.claim("R", step=10, count=1) == [name(1)]


@both
def test_a_group_waits_for_all_its_verdicts(store: Store, group: Make) -> None:
    store.append_group(group(1, members=3))  # the third verdict is pending
    add(store, group, [2])
    trace = f"{name(1)}/2"
    assert store.claim("R", step=0, count=2) == [] and store.verify().ok
    store.append_verdict(trace, GOOD)
    assert store.num_ready("R") == 2 and store.verify().ok
    store.append_verdict(trace, LATER)  # it is judged anew
    assert store.num_ready("R") == 1 and store.verify().ok
    store.append_verdict(trace, replace(GOOD, evaluator="late/2"))
    assert store.claim("R", step=0, count=2) == [name(1), name(2)]
    store.append_verdict(trace, LATER)
    store.append_verdict(trace, GOOD)  # consumed is consumed
    assert store.num_ready("R") == 0 and store.verify().ok


@both
def test_another_run_takes_nothing_from_the_queue(store: Store, group: Make, run: RunRecord) -> None:
    store.add_run(replace(run, run_id="S"))
    add(store, group, [1])
    store.consume("S", [name(1)], step=4)
    assert store.num_ready("R") == 1 and store.claim("S", step=5, count=1) == []
    assert store.claim("R", step=0, count=1) == [name(1)]
    assert store.consumed("S") == {name(1): 4} and store.verify().ok
    with pytest.raises(StoreError, match="no such run"):
        store.claim("nobody", step=0, count=1)


@both
def test_a_queue_that_disagrees_with_the_records_is_found(store: Store, group: Make) -> None:
    add(store, group, [1, 2, 3])
    store.claim("R", step=0, count=1)
    for statement in (
        "DELETE FROM ready WHERE step = 2",
        "UPDATE ready SET step = 9 WHERE step = 3",
        "INSERT INTO ready SELECT run_id, purpose, step, leaf FROM groups WHERE step = 1",
    ):
        store._write(lambda c, statement=statement: c.execute(text(statement)))
    assert [f.record for f in store.verify().findings] == [f"group {name(n)}" for n in (1, 2, 3)]
    assert {p for _, _, p in store._read(lambda c: list(problems(c)))} == {
        "it waits to be consumed, but was, or has no verdict yet",
        "it is complete and not consumed, but does not wait to be",
        "it waits under another run, purpose or step than its own",
    }
    assert all(isinstance(f, Finding) for f in store.verify().findings)


@both
def test_random_histories_keep_the_queue_true(store: Store, group: Make) -> None:
    rng = random.Random(5)
    stored: list[int] = []
    for step in range(25):
        match rng.randrange(4):
            case 0 | 1:
                stored.append(len(stored))
                store.append_group(group(stored[-1], members=rng.choice([1, 3])))
            case 2:
                before = store.num_ready("R")
                count = rng.randint(1, 3)
                assert len(store.claim("R", step=step, count=count)) == (count if count <= before else 0)
            case 3 if stored:
                verdict = rng.choice([GOOD, LATER])
                store.append_verdict(f"{name(rng.choice(stored))}/0", verdict)
    assert stored and store.verify().ok


@both
def test_what_waits_and_what_a_step_has_are_listed_in_the_order_of_use(store: Store, group: Make) -> None:
    add(store, group, [3, 1, 2])
    add(store, group, [0], purpose="evaluation")
    assert store.waiting("R") == [(name(1), 1), (name(2), 2), (name(3), 3)]
    assert store.group_ids("R") == [name(3), name(1), name(2)]
    store.consume("R", [name(2), name(1)], step=5)
    assert store.waiting("R") == [(name(3), 3)]
    assert store.claimed("R", step=5) == [name(2), name(1)] and store.claimed("R", step=4) == []
    assert store.claim("R", step=5, count=2) == [name(2), name(1)]
