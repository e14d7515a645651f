"""The store as its users see it: exact round trips, one head for one history, and refusals that say why."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askesis.clock import VirtualClock
from askesis.errors import StoreError
from askesis.store import Group, Head, RunRecord, Store
from askesis.trace import Verdict, VerdictStatus, encode

Make = Callable[..., Group]
both = pytest.mark.parametrize("store", ("sqlite", "postgresql"), indirect=True)
"""The same test in a file and on a server."""


def assert_equal(a: Group | None, b: Group) -> None:
    assert a is not None
    for name in ("group_id", "run_id", "purpose", "step", "task"):
        assert getattr(a, name) == getattr(b, name)
    assert len(a.members) == len(b.members)
    for x, y in zip(a.members, b.members, strict=True):
        assert encode(x.trace) == encode(y.trace)
        for name in ("member_index", "seed", "verdict", "duration_s", "policy_version"):
            assert getattr(x, name) == getattr(y, name)


@both
def test_a_group_comes_back_exactly(store: Store, group: Make) -> None:
    for new in (group(1), group(2, members=16), group(3, members=0)):
        store.append_group(new)
        assert_equal(store.group(new.group_id), new)
    assert store.group("nothing") is None
    assert store.verify().ok


@both
def test_groups_are_chosen_by_run_purpose_and_step(store: Store, group: Make, run: RunRecord) -> None:
    store.add_run(RunRecord(run_id="S", recipe_hash="x", recipe={}, seed=1, versions={}))
    for new in (group(2), group(1), group(1, purpose="evaluation"), group(5, run_id="S")):
        store.append_group(new)
    names = [g.group_id for g in store.groups("R")]
    assert names == ["R/train/000002/000", "R/train/000001/000", "R/evaluation/000001/000"]
    assert [g.group_id for g in store.groups("R", purpose="evaluation")] == names[2:]
    assert [g.group_id for g in store.groups("R", step=1)] == names[1:]
    assert [g.group_id for g in store.groups("R", purpose="train", step=2)] == names[:1]
    assert list(store.groups("nobody")) == []


@both
def test_groups_are_stored_together_or_not_at_all(store: Store, group: Make) -> None:
    store.add_run(RunRecord(run_id="S", recipe_hash="x", recipe={}, seed=1, versions={}))
    with pytest.raises(StoreError):
        store.append_groups([group(1), group(2), group(3, run_id="nowhere")])
    assert store.group("R/train/000001/000") is None and store.steps("R", "train") == []
    store.append_groups([group(3), group(1), group(2, run_id="S"), group(4, purpose="evaluation")])
    assert (store.steps("R", "train"), store.steps("R", "evaluation"), store.steps("S", "train")) == ([1, 3], [4], [2])


@both
def test_writing_while_listing(store: Store, group: Make) -> None:
    for number in range(3):
        store.append_group(group(number))
    void = Verdict(status=VerdictStatus.VOID, evaluator="audit/1")
    seen = [store.append_verdict(f"{g.group_id}/0", void) for g in store.groups("R")]
    assert seen == [1, 1, 1]


def _write(store: Store, group: Make, run: RunRecord, steps: range) -> None:
    for step in steps:
        store.add_run(run)
        store.append_group(group(step))
        store.consume("R", [group(step).group_id], step=step)
        store.log_metrics("R", step, {"loss": random.random()})


def test_reopening_changes_no_head(tmp_path: Path, _templates: tuple[Path, Path], group: Make, run: RunRecord) -> None:
    for name in ("a.db", "b.db"):
        shutil.copy(_templates[0], tmp_path / name)
    with Store.open(tmp_path / "a.db", clock=VirtualClock(5.0)) as a:
        _write(a, group, run, range(4))
        expected = a.head()
    for step in range(4):
        with Store.open(tmp_path / "b.db") as b:
            _write(b, group, run, range(max(step - 1, 0), step + 1))  # the step before is replayed, as after a crash
            b.set_run_status("R", "finished" if step == 3 else "running")
    with Store.open(tmp_path / "b.db", read_only=True) as b:
        assert b.head() == expected
        report = b.verify()
        assert (report.ok, report.size, report.root) == (True, expected.size, expected.root)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False))
def test_every_write_delivered_twice_gives_the_same_head(
    tmp_path: Path, _templates: tuple[Path, Path], group: Make, run: RunRecord, rng: random.Random
) -> None:
    void = Verdict(status=VerdictStatus.VOID, evaluator="audit/1")
    first, second = group(1, members=1), group(2, members=1)
    writes: list[Callable[[Store], object]] = [
        lambda s: s.add_run(run),
        lambda s: s.append_group(first),
        lambda s: s.append_group(second),
        lambda s: s.append_verdict(f"{first.group_id}/0", void),
        lambda s: s.consume("R", [first.group_id, second.group_id], step=3),
    ]
    twice, once = tmp_path / "twice.db", tmp_path / "once.db"
    for path in (twice, once):
        shutil.copy(_templates[0], path)
    with Store.open(twice) as store:
        for place, write in enumerate(writes):
            write(store)
            for old in rng.sample(range(place + 1), rng.randint(0, place + 1)):
                writes[old](store)
        head = store.head()
    with Store.open(once) as plain:
        for write in writes:
            write(plain)
        assert plain.head() == head
        assert head.size == 1 + 4 + 4 + 1 + 2


def test_an_empty_store_has_the_empty_head(tmp_path: Path) -> None:
    with Store.open(tmp_path / "deep" / "new.db") as store:
        assert store.head() == Head(size=0, root="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        assert store.runs() == [] and store.run("R") is None and store.verify().ok


def test_runs_with_their_status_and_time(tmp_path: Path, run: RunRecord) -> None:
    with Store.open(tmp_path / "s.db", clock=VirtualClock(99.5)) as store:
        store.add_run(run)
        head = store.head()
        store.set_run_status("R", "failed")
        entry = store.run("R")
        assert entry is not None and store.runs() == [entry]
        assert (entry.record, entry.status, entry.created_at) == (run, "failed", 99.5)
        assert store.head() == head


@both
def test_metrics_keep_unknown_values_and_the_latest_write(store: Store) -> None:
    head = store.head()
    store.log_metrics("R", 2, {"loss": 0.5, "reward": float("nan"), "big": float("inf")})
    store.log_metrics("R", 1, {"loss": 1, "reward": None})
    store.log_metrics("R", 2, {"loss": 0.25})
    store.log_metrics("R", 3, {})
    assert store.metrics("R") == {
        "big": [(2, float("inf"))],
        "loss": [(1, 1.0), (2, 0.25)],
        "reward": [(1, None), (2, None)],
    }
    assert store.metrics("nobody") == {} and store.head() == head and store.verify().ok


@both
def test_a_negative_zero_is_a_zero(store: Store, group: Make) -> None:
    """SQLite keeps no sign of it in a column: a checksum over the sign would call the value damaged."""
    first = group(1, members=1)
    verdict = Verdict(status=VerdictStatus.OK, evaluator="e/1", rewards={"r": (-0.0, 1.0)})
    member = replace(first.members[0], duration_s=-0.0, verdict=verdict)
    store.append_group(replace(first, members=(member,)))
    store.log_metrics("R", 1, {"loss": -0.0})
    stored = store.group(first.group_id)
    assert stored is not None and stored.members[0].duration_s == 0.0
    assert store.metrics("R") == {"loss": [(1, 0.0)]} and store.verify().ok


def test_a_reader_sees_what_is_stored_and_cannot_write(store: Store, group: Make) -> None:
    with Store.open(Path(store.where), read_only=True) as reader:
        store.append_group(group(1))
        assert_equal(reader.group(group(1).group_id), group(1))
        for write in (
            lambda: reader.append_group(group(2)),
            lambda: reader.log_metrics("R", 1, {"x": 1.0}),
            reader.sync,
            lambda: reader.write_head(Path(store.where).with_name("heads")),
        ):
            with pytest.raises(StoreError, match="opened for reading") as error:
                write()
            assert error.value.next_step
        assert reader.head() == store.head()


@both
def test_write_head_appends_to_a_file_outside(store: Store, group: Make, tmp_path: Path) -> None:
    heads = tmp_path / "heads.jsonl"
    store.write_head(heads)
    store.append_group(group(1))
    store.write_head(heads)
    lines = [json.loads(line) for line in heads.read_text().splitlines()]
    assert [line["size"] for line in lines] == [1, 9]
    assert lines[1] == {"size": 9, "root": store.head().root}
    assert store.verify(heads=heads).ok


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreError, match="there is no store here") as error:
            Store.open(tmp_path / "none.db", **options)
        assert str(tmp_path / "none.db") in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="this is a folder"):
        Store.open(tmp_path)


@both
def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="not open in this process"):
        store.head()


@both
def test_another_thread_is_refused(store: Store) -> None:
    errors: list[BaseException] = []

    def use() -> None:
        try:
            store.head()
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1 and "thread" in str(errors[0])
    assert store.head().size == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_refused(store: Store) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.head()
        except StoreError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.head().size == 1


def test_importing_the_package_alone_loads_no_database() -> None:
    heavy = ("sqlalchemy", "alembic", "pyarrow")
    code = f"import sys, askesis, askesis.trace; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
