"""Locks, full disks, cut files: each has its own error that says where and what next."""

from __future__ import annotations

import errno
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from askesis.errors import StoreBusy, StoreCorrupt, StoreError, StoreFull
from askesis.store import Group, Store
from askesis.store.sqlite import WriterLock, connect, file_error, structure_problems, transaction, translated

Make = Callable[..., Group]


def test_the_connection_has_our_settings(store: Store) -> None:
    names = ("journal_mode", "foreign_keys", "synchronous", "mmap_size", "trusted_schema", "busy_timeout")
    values = {}
    connection = connect(Path(store.where), mode="rw", busy_timeout_s=2.5)
    for name in names:
        values[name] = connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0
    connection.close()
    assert values == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 1,
        "mmap_size": 0,
        "trusted_schema": 0,
        "busy_timeout": 2500,
    }


def test_a_second_writer_waits_and_is_then_refused(store: Store) -> None:
    started = time.monotonic()
    with pytest.raises(StoreBusy, match=r"not free after 0\.2 s") as error:
        Store.open(Path(store.where), busy_timeout_s=0.2)
    assert 0.15 < time.monotonic() - started < 5
    assert error.value.where == store.where and "read_only" in (error.value.next_step or "")
    store.close()
    Store.open(Path(store.where), busy_timeout_s=0.2).close()


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


def test_another_process_with_an_exclusive_lock(store: Store, group: Make, tmp_path: Path) -> None:
    path = Path(store.where)
    store.close()
    with Store.open(path, busy_timeout_s=0.2) as store:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        for write in (lambda: store.append_group(group(1)), store.sync):
            with pytest.raises(StoreBusy, match=r"not free after 0\.2 s") as error:
                write()
            assert error.value.where == str(path)
        assert store.head().size == 1  # reading goes on
        holder.communicate("", timeout=30)
        store.append_group(group(1))  # and so does writing, with nothing lost
        assert store.head().size == 9 and store.verify().ok


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    lock = WriterLock(path, busy_timeout_s=0.1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        WriterLock(path, busy_timeout_s=0.1)
    lock.release()
    WriterLock(path, busy_timeout_s=0.1).release()


def test_a_full_disk_keeps_what_was_stored(store: Store, group: Make) -> None:
    store.append_group(group(1))
    head = store.head()
    driver = store._database._connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    (pages,) = driver.execute("PRAGMA page_count").fetchone()
    driver.execute(f"PRAGMA max_page_count={pages + 2}").fetchall()
    with pytest.raises(StoreFull, match="no space is left") as error:
        for number in range(2, 200):
            head = store.head()
            store.append_group(group(number, members=16))
    assert error.value.where == store.where and str(Path(store.where).parent) in (error.value.next_step or "")
    assert store.head() == head and store.verify().ok
    driver.execute("PRAGMA max_page_count=1000000").fetchall()
    store.append_group(group(number, members=16))
    assert store.verify().ok and store.head().size > head.size


@pytest.mark.parametrize("kept", [1, 50, 99, 100, 4095, 4096, 5000, 0.5, 0.99])
def test_a_cut_file_is_corrupt(full: Path, kept: float) -> None:
    data = full.read_bytes()
    full.write_bytes(data[: int(kept if kept >= 1 else kept * len(data))])
    for read_only in (True, False):
        with pytest.raises(StoreCorrupt) as error:
            Store.open(full, read_only=read_only)
        assert error.value.where == str(full) and error.value.next_step


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(StoreCorrupt, match="the store is damaged"):
        Store.open(tmp_path / "s.db")


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    connection = store._database._connection
    with pytest.raises(ZeroDivisionError), transaction(connection, writes=True):
        connection.exec_driver_sql("DELETE FROM runs")
        raise ZeroDivisionError
    assert len(store.runs()) == 1


def test_a_row_that_points_nowhere_is_a_problem(full: Path) -> None:
    raw = sqlite3.connect(full)
    raw.execute("DELETE FROM tasks WHERE task_key = 'sum/1'")
    raw.commit()
    raw.close()
    connection = connect(full, mode="ro", busy_timeout_s=1.0)
    (problem,) = structure_problems(connection)
    connection.close()
    assert "of groups points to a row of tasks that is not there" in problem


def test_errors_are_ours_and_travel_between_processes(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:")
    with pytest.raises(StoreError) as error, translated(tmp_path / "s.db", 1.0):
        connection.execute("SELECT nonsense")
    connection.close()
    again = pickle.loads(pickle.dumps(error.value))  # noqa: S301
    assert str(again) == str(error.value) and "no such column" in str(again)
    with pytest.raises(ZeroDivisionError), translated(tmp_path / "s.db", 1.0):
        raise ZeroDivisionError


def test_files_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a file cannot be written") as error:
        store.write_head(tmp_path)
    assert error.value.where == str(tmp_path)
    with pytest.raises(StoreError, match="a file cannot be written"):
        Store.open(Path(store.where) / "below" / "a.db")
    assert isinstance(file_error(OSError(errno.ENOSPC, "full"), tmp_path), StoreFull)


def test_sync_flushes_and_returns_to_the_quick_setting(store: Store, group: Make) -> None:
    store.append_group(group(1))
    head = store.head()
    store.sync()
    driver = store._database._connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    assert driver.execute("PRAGMA synchronous").fetchone() == (1,)
    assert store.head() == head
