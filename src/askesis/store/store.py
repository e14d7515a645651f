"""The store: runs, groups of traces, verdicts, consumption and metrics in one file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, select

from askesis.clock import Clock, SystemClock
from askesis.errors import StoreError
from askesis.store import events, listing, log, sqlite
from askesis.store.migrate import prepare
from askesis.store.reading import read_group
from askesis.store.records import Group, Head, Report, RunEntry, RunRecord, TraceSummary
from askesis.store.schema import groups
from askesis.store.verify import verify
from askesis.trace import Verdict

__all__ = ["Store"]

_SMALLEST_FILE_BYTES = 512
"""The smallest page that SQLite knows."""


class Store:
    """One writer, any number of readers, used from the thread and the process that opened it.

    Every method is one transaction: it happens whole or not at all. Writes are idempotent: what was stored is accepted
    again, and refused with StoreConflict when its content differs. Raises StoreBusy, StoreFull, StoreCorrupt or
    StoreError.
    """

    def __init__(
        self, path: Path, connection: Connection, lock: sqlite.WriterLock | None, busy_timeout_s: float, clock: Clock
    ) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._process = os.getpid()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        create: bool = True,
        read_only: bool = False,
        busy_timeout_s: float = 10.0,
        clock: Clock | None = None,
    ) -> Self:
        """Open the store at ``path``; a missing one is created if ``create``.

        Args:
            busy_timeout_s: how long to wait for another process in seconds.
            clock: where the times of records come from; the machine's by default.

        Raises:
            StoreBusy: another process has it open for writing.
            StoreCorrupt: the file is damaged, cut, or no store.
            StoreError: it does not exist and may not be created, or a newer askesis wrote it.
        """
        path = Path(path)
        _check_exists(path, create=create and not read_only)
        lock = None
        with sqlite.translated(path, busy_timeout_s):
            try:
                lock = None if read_only else sqlite.WriterLock(path, busy_timeout_s=busy_timeout_s)
                mode = "ro" if read_only else "rwc"
                connection = sqlite.connect(path, mode=mode, busy_timeout_s=busy_timeout_s)
                try:
                    prepare(connection, path, writable=not read_only)
                except BaseException:
                    connection.close()
                    raise
            except BaseException:
                if lock is not None:
                    lock.release()
                raise
        return cls(path, connection, lock, busy_timeout_s, clock or SystemClock())

    def close(self) -> None:
        """Let go of the file. A second call does nothing."""
        if not self._connection.closed:
            self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self, *, writes: bool) -> None:
        if os.getpid() != self._process or self._connection.closed:
            raise StoreError(
                "the store is not open in this process",
                where=str(self.path),
                next_step="open it in the process that uses it; a forked child cannot share it",
            )
        if writes and self._lock is None:
            raise StoreError("the store was opened for reading", where=str(self.path), next_step="read_only=False")

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        self._require_open(writes=writes)
        with (
            sqlite.translated(self.path, self._busy_timeout_s),
            sqlite.transaction(self._connection, writes=writes) as connection,
        ):
            yield connection

    def add_run(self, run: RunRecord) -> None:
        """Store a run. Raises StoreConflict if the name belongs to a run of other content."""
        with self._transaction(writes=True) as connection:
            events.add_run(connection, run, self._clock.now())

    def run(self, run_id: str) -> RunEntry | None:
        """A run, or None if there is none of that name."""
        with self._transaction(writes=False) as connection:
            return next(iter(listing.runs(connection, run_id)), None)

    def runs(self) -> list[RunEntry]:
        """All runs, oldest first."""
        with self._transaction(writes=False) as connection:
            return listing.runs(connection, None)

    def set_run_status(self, run_id: str, status: str) -> None:
        """Set the status: running, finished or failed. Bookkeeping; no part of the log."""
        with self._transaction(writes=True) as connection:
            events.set_run_status(connection, run_id, status)

    def append_group(self, group: Group) -> None:
        """Store a complete group: task, traces and first verdicts. The run must exist."""
        self.append_groups([group])

    def append_groups(self, groups: Sequence[Group]) -> None:
        """Store several groups in one transaction: a step's groups are there together or not at all."""
        with self._transaction(writes=True) as connection:
            for group in groups:
                events.append_group(connection, group, self._clock.now())

    def group(self, group_id: str) -> Group | None:
        """A group, checked against the log, with the latest verdict of each trace; None if there is no such group."""
        with self._transaction(writes=False) as connection:
            return read_group(connection, group_id)

    def groups(self, run_id: str, *, purpose: str | None = None, step: int | None = None) -> Iterator[Group]:
        """The groups of a run in the order in which they were stored, one read at a time."""
        query = select(groups.c.group_id).where(groups.c.run_id == run_id).order_by(groups.c.leaf)
        if purpose is not None:
            query = query.where(groups.c.purpose == purpose)
        if step is not None:
            query = query.where(groups.c.step == step)
        with self._transaction(writes=False) as connection:
            names = list(connection.execute(query).scalars())
        for name in names:
            group = self.group(name)
            if group is not None:
                yield group

    def steps(self, run_id: str, purpose: str) -> list[int]:
        """The steps that have groups of this purpose, ascending; reads no trace."""
        query = select(groups.c.step).where(groups.c.run_id == run_id, groups.c.purpose == purpose)
        with self._transaction(writes=False) as connection:
            return sorted(connection.scalars(query.distinct()))

    def append_verdict(self, trace_id: str, verdict: Verdict) -> int:
        """Add a later verdict; it replaces none, but the latest counts. Equal to the latest: nothing is added.

        Returns:
            Its number among the verdicts of the trace; the one stored with the group is 0.
        """
        with self._transaction(writes=True) as connection:
            return events.append_verdict(connection, trace_id, verdict)

    def verdicts(self, trace_id: str) -> list[Verdict]:
        """All verdicts of a trace, oldest first."""
        with self._transaction(writes=False) as connection:
            return listing.verdicts(connection, trace_id)

    def consume(self, run_id: str, group_ids: Sequence[str], *, step: int) -> None:
        """Note that training step ``step`` used the groups. Raises StoreConflict if another step of the run did."""
        with self._transaction(writes=True) as connection:
            events.consume(connection, run_id, group_ids, step)

    def consumed(self, run_id: str) -> dict[str, int]:
        """Which step used which group, in the order of use."""
        with self._transaction(writes=False) as connection:
            return listing.consumed(connection, run_id)

    def log_metrics(self, run_id: str, step: int, values: Mapping[str, float | None]) -> None:
        """Store numbers of a step; a name that the step already has is overwritten. None and NaN are kept as None."""
        numbers = {k: None if v is None or math.isnan(v) else float(v) for k, v in values.items()}
        with self._transaction(writes=True) as connection:
            events.log_metrics(connection, run_id, step, numbers)

    def metrics(self, run_id: str) -> dict[str, list[tuple[int, float | None]]]:
        """Every metric of a run as pairs of step and value, by step."""
        with self._transaction(writes=False) as connection:
            return listing.metrics(connection, run_id)

    def trace_summaries(self, run_id: str, *, limit: int = 50, offset: int = 0) -> list[TraceSummary]:
        """One line per trace of a run in stored order, with its latest verdict."""
        with self._transaction(writes=False) as connection:
            return listing.trace_summaries(connection, run_id, limit, offset)

    def head(self) -> Head:
        """Size and root of the Merkle log."""
        with self._transaction(writes=False) as connection:
            return log.head_of(log.read_frontier(connection))

    def sync(self) -> None:
        """Make everything stored so far survive a power cut (a killed process never loses anything that was stored)."""
        self._require_open(writes=True)
        with sqlite.translated(self.path, self._busy_timeout_s):
            sqlite.make_durable(self._connection)

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
        with self._transaction(writes=False) as connection:
            return verify(connection, None if heads is None else Path(heads))


def _check_exists(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StoreError("a store is a file, this is a folder", where=str(path), next_step="name a file in it")
    if path.exists() and 0 < path.stat().st_size < _SMALLEST_FILE_BYTES:
        raise sqlite.cut(path)  # SQLite would take it for a new file and write over it
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite.file_error(error, path) from error
    elif not path.exists():
        raise StoreError(
            "there is no store here", where=str(path), next_step="check the path; training creates the store"
        )
