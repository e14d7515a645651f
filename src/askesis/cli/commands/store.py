"""askesis store"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from askesis import store as library
from askesis.cli import output
from askesis.errors import RecipeError
from askesis.training.rundir import RunDir, find_run

__all__ = ["export", "query", "verify"]


def verify(name: str, *, json_output: bool) -> int:
    """Check a store; exit code 1 when a record is not what was written."""
    path, heads = _files(name)
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


def export(name: str, out: Path, *, json_output: bool) -> None:
    """Write traces to JSONL or Parquet, by the ending of ``out``."""
    found = find_run(name)
    writers = {".jsonl": library.export_jsonl, ".parquet": library.export_parquet}
    if out.suffix not in writers:
        raise RecipeError(
            "the export's format is not known", got=out.name, expected="a file ending in .jsonl or .parquet"
        )
    if not out.parent.is_dir():
        raise RecipeError("the export's folder does not exist", where=str(out.parent), next_step="make it first")
    with library.Store.open(found.store, create=False, read_only=True) as store:
        count = writers[out.suffix](store, found.identity()["run_id"], out)
    if json_output:
        output.emit({"file": str(out), "rows": count})
    else:
        print(f"{count} rows in {out}")


def _files(name: str) -> tuple[Path, Path | None]:
    """The database and the heads beside it; ``name`` is a run or a database file."""
    if Path(name).is_file():
        run = RunDir(Path(name).parent)
        return Path(name), run.heads if run.heads.is_file() else None
    run = find_run(name)
    return run.store, run.heads if run.heads.is_file() else None


def _plain(cell: object) -> object:
    return f"<{len(cell)} bytes>" if isinstance(cell, bytes) else cell
