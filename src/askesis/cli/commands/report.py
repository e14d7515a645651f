"""askesis report"""

from __future__ import annotations

from pathlib import Path

from askesis.cli import output
from askesis.training.report import headline_json, to_markdown
from askesis.training.reporting import collect, write_report
from askesis.training.rundir import find_run

__all__ = ["run"]


def run(name: str, out: Path | None, *, markdown: bool, json_output: bool) -> None:
    """Write the HTML report of a run, or print the short one."""
    found = find_run(name)
    if markdown:
        print(to_markdown(collect(found)))
        return
    path = write_report(found, out)
    if json_output:
        output.emit({"report": str(path), "size_bytes": path.stat().st_size, "headline": headline_json(collect(found))})
    else:
        print(f"report: {path}")
