"""The store of a run that is about to go on: in its folder or on a server, and driven by one process alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from askesis.errors import CheckpointError, StoreBusy
from askesis.store import Store, is_url
from askesis.training.observe.process import describe_process, is_alive
from askesis.training.rundir import RunDir

__all__ = ["open_records"]


@contextmanager
def open_records(run: RunDir, url: str, *, wait_s: float = 10.0, outage_s: float | None = None) -> Iterator[Store]:
    """The store at ``url``, or in the run's folder for an empty one, locked for this process until the block ends.

    ``wait_s`` is how long to wait for another process, or for a server that does not answer; ``outage_s`` for one that
    went away later, by default as long.

    Raises:
        StoreBusy: another process drives the run; the message names it.
        CheckpointError: the run's records are in another store, or the store has a run of this name that was begun in
            another folder.
        StoreError: it cannot be opened, see :meth:`askesis.store.Store.open`.
    """
    run_id = str(run.identity()["run_id"])
    target: Path | str = url or run.store
    before = run.store_target if run.begun else None
    has_moved = before is not None and str(before) != str(target)
    if has_moved and not is_url(target) and not run.store.exists():
        raise _elsewhere(run, target)
    with _locked(run, run_id, target, wait_s, outage_s) as store:
        is_known = store.run(run_id) is not None
        if has_moved and not is_known:
            raise _elsewhere(run, target)
        if before is None and is_known:
            raise CheckpointError(
                "the store has a run of this name that was begun in another folder",
                where=store.where,
                got=run_id,
                next_step="put that folder back to resume it; for a new run take another run.seed, another file name "
                "of the recipe, or another database",
            )
        yield store


def _locked(run: RunDir, run_id: str, target: Path | str, wait_s: float, outage_s: float | None) -> Store:
    """The open store; a file has one writer, on a server the run is locked."""
    try:
        store = Store.open(target, busy_timeout_s=wait_s, outage_s=outage_s)
    except StoreBusy as error:
        if is_url(target):
            raise
        raise _driven(run, error) from error
    try:
        store.lock_run(run_id)
    except BaseException as error:
        store.close()
        if isinstance(error, StoreBusy):
            raise _driven(run, error) from error
        raise
    return store


def _elsewhere(run: RunDir, target: Path | str) -> CheckpointError:
    known = run.store_target
    return CheckpointError(
        "the run's records are in another store",
        where=str(run.path),
        got=f"store.url={target if is_url(target) else ''!r}",
        expected=f"store.url={known if is_url(known) else ''!r}, as before",
        next_step=f"give store.url as before, or take the records along: askesis store copy {known} {target}",
    )


def _driven(run: RunDir, error: StoreBusy) -> StoreBusy:
    """Who drives the run is in its folder; of a run in another folder only the database knows."""
    process = run.state().get("process")
    known = process if process and is_alive(process) is not False else None
    return StoreBusy(
        "another process drives this run",
        where=str(run.path),
        got=error.got if known is None else describe_process(known),
        next_step="let it finish, or end it first; `askesis top RUN` shows what it does",
    )
