"""The store: runs, groups of traces, verdicts, consumption and metrics in one database."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Connection, select

from askesis.clock import Clock, SystemClock
from askesis.errors import StoreError
from askesis.store import events, listing, log, queue, sqlite
from askesis.store.database import Database, is_url
from askesis.store.migrate import prepare
from askesis.store.reading import read_group
from askesis.store.records import Group, Head, Report, RunEntry, RunRecord, TraceSummary
from askesis.store.rows import GroupWrite, unsigned_zero
from askesis.store.schema import groups
from askesis.store.verify import verify
from askesis.trace import Verdict

__all__ = ["Store"]

Result = TypeVar("Result")


class Store:
    """Everything that a run leaves behind, used from the thread and the process that opened it.

    In a file (SQLite) it has one writer and any number of readers, at a URL (PostgreSQL) many writers, who append one
    after the other. Every method is one transaction: it happens whole or not at all. Writes are idempotent: what was
    stored is accepted again, and refused with StoreConflict when its content differs. So a write whose answer was lost
    with the server is repeated, for as long as ``open`` was told to wait. Raises StoreBusy, StoreFull, StoreCorrupt,
    StoreUnreachable or StoreError.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._process = os.getpid()
        self._thread = threading.get_ident()

    @classmethod
    def open(
        cls,
        target: Path | str,
        *,
        create: bool = True,
        read_only: bool = False,
        busy_timeout_s: float = 10.0,
        outage_s: float | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Open the store in a file or at ``postgresql+psycopg://user@host:5432/database``.

        Args:
            create: make a new store where there is none; a database on a server must exist, an empty one will do.
            busy_timeout_s: how long to wait in seconds for another writer, or for a server that does not answer.
            outage_s: how long later calls wait for a server that went away; ``busy_timeout_s`` by default.
            clock: where the times of records come from; the machine's by default.

        Raises:
            StoreBusy: another process has the file open for writing.
            StoreCorrupt: it is damaged, cut, or no store.
            StoreUnreachable: no server answers there.
            StoreError: it does not exist and may not be created, or a newer askesis wrote it.
            MissingExtra: a URL needs the package psycopg.
        """
        database = _database(target, create=create, read_only=read_only, wait_s=busy_timeout_s, outage_s=outage_s)
        try:
            prepare(database, create=create)
        except BaseException:
            database.close()
            raise
        return cls(database, clock or SystemClock())

    @property
    def where(self) -> str:
        """Path or address, without password."""
        return self._database.where

    def close(self) -> None:
        """Let go of the database. A second call does nothing."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self, *, writes: bool) -> None:
        if os.getpid() != self._process or self._database.closed:
            raise StoreError(
                "the store is not open in this process",
                where=self.where,
                next_step="open it in the process that uses it; a forked child cannot share it",
            )
        if threading.get_ident() != self._thread:
            raise StoreError(
                "the store belongs to the thread that opened it",
                where=self.where,
                next_step="open it once more in this thread",
            )
        if writes and not self._database.writable:
            raise StoreError("the store was opened for reading", where=self.where, next_step="read_only=False")

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        self._require_open(writes=False)
        return self._database.do(work, writes=False)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        self._require_open(writes=True)
        return self._database.do(work, writes=True)

    def lock_run(self, run_id: str) -> None:
        """Be the only process that drives the run, until this store is closed. Raises StoreBusy.

        In a file there is nothing to do, since the store itself has one writer.
        """
        self._require_open(writes=True)
        self._database.lock_run(run_id)

    def add_run(self, run: RunRecord) -> None:
        """Store a run. Raises StoreConflict if the name belongs to a run of other content."""
        self._write(lambda c: events.add_run(c, run, self._clock.now()))

    def run(self, run_id: str) -> RunEntry | None:
        """A run, or None if there is none of that name."""
        return self._read(lambda c: next(iter(listing.runs(c, run_id)), None))

    def runs(self) -> list[RunEntry]:
        """All runs, oldest first."""
        return self._read(lambda c: listing.runs(c, None))

    def set_run_status(self, run_id: str, status: str) -> None:
        """Set the status: running, finished or failed. Bookkeeping; no part of the log."""
        self._write(lambda c: events.set_run_status(c, run_id, status))

    def append_group(self, group: Group) -> None:
        """Store a complete group: task, traces and first verdicts. The run must exist."""
        self.append_groups([group])

    def append_groups(self, groups: Sequence[Group]) -> None:
        """Store several groups in one transaction: a step's groups are there together or not at all."""
        self._require_open(writes=True)
        writes = [GroupWrite(group) for group in groups]
        self._write(lambda c: events.append_groups(c, writes, self._clock.now()))

    def group(self, group_id: str) -> Group | None:
        """A group, checked against the log, with the latest verdict of each trace; None if there is no such group."""
        return self._read(lambda c: read_group(c, group_id))

    def groups(self, run_id: str, *, purpose: str | None = None, step: int | None = None) -> Iterator[Group]:
        """The groups of a run in the order in which they were stored, one read at a time."""
        query = select(groups.c.group_id).where(groups.c.run_id == run_id).order_by(groups.c.leaf)
        if purpose is not None:
            query = query.where(groups.c.purpose == purpose)
        if step is not None:
            query = query.where(groups.c.step == step)
        for name in self._read(lambda c: list(c.scalars(query))):
            group = self.group(name)
            if group is not None:
                yield group

    def steps(self, run_id: str, purpose: str) -> list[int]:
        """The steps that have groups of this purpose, ascending; reads no trace."""
        query = select(groups.c.step).where(groups.c.run_id == run_id, groups.c.purpose == purpose)
        return self._read(lambda c: sorted(c.scalars(query.distinct())))

    def append_verdict(self, trace_id: str, verdict: Verdict) -> int:
        """Add a later verdict; it replaces none, but the latest counts. Equal to the latest: nothing is added.

        Returns:
            Its number among the verdicts of the trace; the one stored with the group is 0.
        """
        since: list[int] = []
        return self._write(lambda c: events.append_verdict(c, trace_id, verdict, since))

    def verdicts(self, trace_id: str) -> list[Verdict]:
        """All verdicts of a trace, oldest first."""
        return self._read(lambda c: listing.verdicts(c, trace_id))

    def claim(
        self, run_id: str, *, step: int, count: int, purpose: str = "train", oldest_step: int | None = None
    ) -> list[str]:
        """Consume the next ``count`` complete groups for a training step: exactly so many, or none if fewer wait.

        A group is complete when no trace of it waits for a verdict. Groups of the oldest step come first, in stored
        order within it. What ``step`` has consumed already counts, so a call that is repeated (after a crash, too)
        returns the same groups, and consumers that name different steps never share one.

        Args:
            oldest_step: groups that an earlier step asked for are passed over; they stay where they are.

        Returns:
            The names of the groups; empty if they do not suffice.
        """
        return self._write(
            lambda c: events.claim(c, run_id, step=step, count=count, purpose=purpose, oldest_step=oldest_step)
        )

    def waiting(self, run_id: str, *, purpose: str = "train") -> list[tuple[str, int]]:
        """The complete groups that wait to be consumed and the step that asked for each, in the order of
        :meth:`claim`.
        """
        return self._read(lambda c: queue.waiting(c, run_id, purpose))

    def claimed(self, run_id: str, *, step: int, purpose: str = "train") -> list[str]:
        """The groups that a training step has consumed, in the order of use."""
        return self._read(lambda c: queue.claimed(c, run_id, purpose, step))

    def group_ids(self, run_id: str, *, purpose: str = "train") -> list[str]:
        """The names of all groups of a run in the order in which they were stored; reads no trace."""
        query = select(groups.c.group_id).where(groups.c.run_id == run_id, groups.c.purpose == purpose)
        return self._read(lambda c: list(c.scalars(query.order_by(groups.c.leaf))))

    def num_ready(self, run_id: str, *, purpose: str = "train", oldest_step: int | None = None) -> int:
        """How many complete groups wait to be claimed."""
        return self._read(lambda c: queue.num_ready(c, run_id, purpose, oldest_step))

    def consume(self, run_id: str, group_ids: Sequence[str], *, step: int) -> None:
        """Note that training step ``step`` used the groups. Raises StoreConflict if another step of the run did."""
        self._write(lambda c: events.consume(c, run_id, group_ids, step))

    def consumed(self, run_id: str) -> dict[str, int]:
        """Which step used which group, in the order of use."""
        return self._read(lambda c: listing.consumed(c, run_id))

    def log_metrics(self, run_id: str, step: int, values: Mapping[str, float | None]) -> None:
        """Store numbers of a step; a name that the step already has is overwritten. None and NaN are kept as None."""
        numbers = {k: None if v is None or math.isnan(v) else unsigned_zero(v) for k, v in values.items()}
        self._write(lambda c: events.log_metrics(c, run_id, step, numbers))

    def metrics(self, run_id: str, *, from_step: int = 0) -> dict[str, list[tuple[int, float | None]]]:
        """Every metric of a run as pairs of step and value, by step; those of earlier steps are left out."""
        return self._read(lambda c: listing.metrics(c, run_id, from_step))

    def trace_summaries(self, run_id: str, *, limit: int = 50, offset: int = 0) -> list[TraceSummary]:
        """One line per trace of a run in stored order, with its latest verdict."""
        return self._read(lambda c: listing.trace_summaries(c, run_id, limit, offset))

    def head(self) -> Head:
        """Size and root of the Merkle log."""
        return self._read(lambda c: log.head_of(log.read_frontier(c)))

    def sync(self) -> None:
        """Make everything stored so far survive a power cut (a killed process never loses anything that was stored)."""
        self._require_open(writes=True)
        self._database.make_durable()

    def write_head(self, path: Path) -> None:
        """Append the present head to a file outside the database, durably. The store is made durable first."""
        self.sync()
        try:
            log.write_head(Path(path), self.head())
        except OSError as error:
            raise sqlite.file_error(error, Path(path)) from error

    def verify(self, *, heads: Path | None = None) -> Report:
        """Check every row against the log, and the log against the heads that were kept outside.

        Without such heads a store that was cut, rolled back, or rewritten together with its log cannot be told from a
        genuine one.
        """
        return self._read(lambda c: verify(c, None if heads is None else Path(heads)))


def _database(target: Path | str, *, create: bool, read_only: bool, wait_s: float, outage_s: float | None) -> Database:
    if is_url(target):
        from askesis.store.postgres import PostgresDatabase

        return PostgresDatabase(str(target), read_only=read_only, wait_s=wait_s, outage_s=outage_s)
    return sqlite.SqliteDatabase(Path(target), create=create, read_only=read_only, wait_s=wait_s)
