"""askesis runs"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from askesis.cli import output
from askesis.errors import AskesisError
from askesis.training.rundir import RunDir

__all__ = ["run"]


def run(folder: Path, *, json_output: bool) -> None:
    """List the runs below ``folder``, newest first."""
    entries = [_entry(RunDir(p.parent)) for p in sorted(folder.glob("*/run.json"), key=lambda p: -p.stat().st_mtime)]
    if json_output:
        output.emit({"runs": entries})
    elif not entries:
        print(f"no runs under {folder}; `askesis train recipes/quickstart.toml` makes one")
    else:
        columns = ("run", "status", "step", "before", "after", "seconds")
        output.table(columns, [tuple(entry[c] for c in columns) for entry in entries])


def _entry(run: RunDir) -> dict[str, Any]:
    try:
        return _facts(run)
    except (AskesisError, KeyError, TypeError, AttributeError) as error:  # one broken run must not hide the others
        return {
            "run": run.path.name,
            "status": f"broken: {type(error).__name__}",
            "step": None,
            "before": None,
            "after": None,
            "seconds": None,
        }


def _facts(run: RunDir) -> dict[str, Any]:
    run.identity()
    state = run.state()
    found = state.get("evaluations", {})
    shares = {label: e["successes"] / e["n"] for label, e in found.items() if e["n"]}
    return {
        "run": run.path.name,
        "status": state.get("status", "new"),
        "step": state.get("step"),
        "before": output.percent(shares.get("before")),
        "after": output.percent(shares.get("after")),
        "seconds": round(state["wall_s"], 1) if "wall_s" in state else None,
    }
