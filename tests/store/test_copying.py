"""From file to server and back: every value, and the same head."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text

from askesis.clock import VirtualClock
from askesis.errors import StoreConflict, StoreCorrupt, StoreError
from askesis.store import Group, RunRecord, Store, copy_store
from askesis.store.schema import meta, metadata
from askesis.trace import Verdict, VerdictStatus

Make = Callable[..., Group]


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every value of every table but the digest of the definitions, which each database writes in its own way."""
    tables = [t for t in metadata.sorted_tables if t is not meta]
    return {
        t.name: store._read(lambda c, t=t: [tuple(r) for r in c.execute(select(t).order_by(*t.primary_key))])
        for t in tables
    }


def test_there_and_back_keeps_every_value_and_the_head(full: Path, new_url: Callable[[], str], tmp_path: Path) -> None:
    with Store.open(full) as store:
        store.append_verdict("R/train/000001/000/2", Verdict(status=VerdictStatus.VOID, evaluator="audit/1"))
        store.log_metrics("R", 9, {"infinite": float("inf"), "small": 5e-324, "third": -1 / 3})
        expected, head = contents(store), store.head()
    url, back = new_url(), tmp_path / "back.db"
    assert copy_store(full, url) == head
    assert copy_store(url, back) == head
    for place in (url, back):
        with Store.open(place, read_only=True) as copied:
            assert contents(copied) == expected
            assert copied.head() == head and copied.verify(heads=full.with_suffix(".heads")).ok
    with Store.open(back) as store:  # and it is a store like any other
        store.append_verdict("R/train/000002/000/2", Verdict(status=VerdictStatus.VOID, evaluator="audit/1"))
        assert store.num_ready("R") == 1 and store.verify().ok


def test_between_files_without_a_server(full: Path, tmp_path: Path) -> None:
    head = copy_store(str(full), tmp_path / "copy.db")
    with Store.open(full) as old, Store.open(tmp_path / "copy.db") as new:
        assert contents(new) == contents(old) and new.head() == old.head() == head


def test_a_target_that_holds_something_is_left_alone(full: Path, store: Store) -> None:
    head = store.head()
    store.close()
    with pytest.raises(StoreConflict, match="holds records already") as error:
        copy_store(full, store.where)
    assert error.value.where == store.where
    with pytest.raises(StoreError, match="there is no store here"):
        copy_store(full.with_name("none.db"), store.where)
    with Store.open(store.where) as again:
        assert again.head() == head


def test_a_source_without_its_tail_is_refused_and_nothing_is_kept(full: Path, tmp_path: Path) -> None:
    with Store.open(full) as store:
        store._write(lambda c: c.execute(text("UPDATE log_state SET size = size - 1")))
    with pytest.raises(StoreCorrupt):
        copy_store(full, tmp_path / "copy.db")
    with Store.open(tmp_path / "copy.db") as copy:
        assert copy.head().size == 0 and copy.runs() == []


def test_random_operations_give_the_same_answers_and_the_same_head_in_both(
    store: Store, new_url: Callable[[], str], group: Make, run: RunRecord
) -> None:
    """Also what is refused is refused by both, in the same words."""
    where = store.where
    store.close()
    clock, rng = VirtualClock(7.0), random.Random(11)
    with Store.open(where, clock=clock) as file, Store.open(new_url(), clock=clock) as server:
        operations = _operations(rng, group, run)
        for operation in itertools.islice(operations, 120):
            assert _outcome(operation, file) == _outcome(operation, server)
        assert file.head() == server.head() and file.head().size > 50
        ours, theirs = contents(file), contents(server)
        ours.pop("runs"), theirs.pop("runs")  # the file's run was stored under another clock
        assert ours == theirs
        assert file.verify() == server.verify() and file.verify().ok


def _outcome(operation: Callable[[Store], object], store: Store) -> object:
    try:
        return operation(store)
    except StoreError as error:
        return type(error), error.what, error.got


def _operations(rng: random.Random, group: Make, run: RunRecord) -> Iterator[Callable[[Store], object]]:
    void = Verdict(status=VerdictStatus.VOID, evaluator="audit/1")
    later = Verdict(status=VerdictStatus.PENDING, evaluator="late/1", due_at=1.5)
    yield lambda s: s.add_run(run)
    while True:
        number, step, other = rng.randrange(12), rng.randrange(6), rng.randrange(12)
        name, members = f"R/train/{number:06d}/000", rng.choice([0, 1, 3])
        verdict, values = rng.choice([void, later]), {"loss": rng.choice([None, rng.random(), -1e300])}
        count = rng.randint(0, 3)
        yield from rng.sample(
            [
                lambda s, n=number, m=members: s.append_group(group(n, members=m)),
                lambda s, a=number, b=other: s.append_groups([group(a, members=1), group(b, members=1)]),
                lambda s, n=name, v=verdict: s.append_verdict(f"{n}/0", v),
                lambda s, n=name, k=step: s.consume("R", [n], step=k),
                lambda s, k=step, c=count: s.claim("R", step=k + 10, count=c),
                lambda s, k=step, v=values: s.log_metrics("R", k, v),
                lambda s: (s.num_ready("R"), s.consumed("R"), s.metrics("R"), s.steps("R", "train")),
                lambda s: (s.head(), s.trace_summaries("R", limit=5, offset=2)),
                lambda s: s.set_run_status("R", "finished"),
            ],
            4,
        )
