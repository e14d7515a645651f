"""askesis store"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from askesis import store as library
from askesis.cli import output
from askesis.errors import RecipeError
from askesis.training.rundir import RunDir, find_run

__all__ = ["copy", "export", "query", "verify"]


def copy(source: str, target: str, *, json_output: bool) -> None:
    """Copy a store, between a run, a file and a URL; whole or not at all."""
    to = target if library.is_url(target) else Path(target)
    head = library.copy_store(_files(source)[0], to)
    with library.Store.open(to, create=False, read_only=True) as store:
        where = store.where  # a URL without its password
    if json_output:
        output.emit({"store": where, **asdict(head)})
    else:
        print(f"{head.size} records in {where}, root {head.root[:16]} as in the source")


def verify(name: str, *, json_output: bool, heads: Path | None = None) -> int:
    """Check a store; exit code 1 when a record is not what was written. ``heads`` replaces the file of the run."""
    path, own = _files(name)
    heads = heads or own
    with library.Store.open(path, create=False, read_only=True) as store:
        report = store.verify(heads=heads)
    if json_output:
        output.emit(asdict(report))
    else:
        outside = (
            "with heads kept outside" if heads else "without heads kept outside: a rewritten log would not be noticed"
        )
        print(f"{report.size} records, root {report.root[:16]}, {outside}")
        if report.findings:
            output.table(("record", "problem"), [(f.record, f.problem) for f in report.findings[:50]])
        print(
            "verified: every record is what was written" if report.ok else f"ALTERED: {len(report.findings)} findings"
        )
    return 0 if report.ok else output.EXIT_FAILED


def query(name: str, sql: str, *, limit: int, json_output: bool) -> None:
    """Run one SELECT."""
    columns, rows = library.query(_files(name)[0], sql, limit=limit)
    if json_output:
        output.emit({"columns": list(columns), "rows": [[_plain(cell) for cell in row] for row in rows]})
    else:
        output.table(columns, [[_plain(cell) for cell in row] for row in rows])


def export(name: str, out: Path, *, json_output: bool, run_id: str | None = None) -> None:
    """Write the traces of a run to JSONL or Parquet, by the ending of ``out``; the store's only run by default."""
    writers = {".jsonl": library.export_jsonl, ".parquet": library.export_parquet}
    if out.suffix not in writers:
        raise RecipeError(
            "the export's format is not known", got=out.name, expected="a file ending in .jsonl or .parquet"
        )
    if not out.parent.is_dir():
        raise RecipeError("the export's folder does not exist", where=str(out.parent), next_step="make it first")
    with library.Store.open(_files(name)[0], create=False, read_only=True) as store:
        count = writers[out.suffix](store, _run_id(store, run_id), out)
    if json_output:
        output.emit({"file": str(out), "rows": count})
    else:
        print(f"{count} rows in {out}")


def _run_id(store: library.Store, wanted: str | None) -> str:
    known = [entry.record.run_id for entry in store.runs()]
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return wanted
    raise RecipeError(
        "the store has no such run" if wanted else "the store has no run, or several",
        where=store.where,
        got=wanted,
        expected=", ".join(known) or "a store with a run",
        next_step="name one with --run-id",
    )


def _files(name: str) -> tuple[Path | str, Path | None]:
    """The database and the heads beside it; ``name`` is a run, a database file or a URL."""
    if library.is_url(name):
        return name, None
    if Path(name).is_file():
        run = RunDir(Path(name).parent)
        return Path(name), run.heads if run.heads.is_file() else None
    run = find_run(name)
    return run.store_target, run.heads if run.heads.is_file() else None


def _plain(cell: object) -> object:
    return f"<{len(cell)} bytes>" if isinstance(cell, bytes) else cell
