"""askesis train"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from askesis.cli import output
from askesis.recipe import Recipe, Resolved, load_recipe

if TYPE_CHECKING:
    from askesis.training.progress import Progress

__all__ = ["run"]


def run(recipe: Path, overrides: Sequence[str], *, explain: bool, json_output: bool) -> None:
    """Resolve the recipe, then explain it or train."""
    resolved = load_recipe(recipe, overrides)
    if explain:
        _explain(resolved, json_output=json_output)
        return
    from askesis.training.preflight import prepare

    prepared = prepare(resolved)
    state = prepared.run.state()
    if state.get("status") == "finished":
        print(f"this run is finished: {prepared.run.path}")
        _show(prepared.run.identity()["run_id"], state, prepared.run.path, json_output=json_output)
        return
    from askesis.training.loop import train
    from askesis.training.observe.logs import JsonLog
    from askesis.training.progress import open_progress
    from askesis.training.reporting import write_report

    if resolved.recipe.run.log_format == "json":
        run_id = str(prepared.run.identity()["run_id"])
        opened: Progress = JsonLog(sys.stderr if json_output else sys.stdout, run_id)
        json_output = True
    else:
        opened = open_progress(json_output=json_output)
    with opened as progress:
        try:
            result = train(resolved, prepared.run, prepared.world, progress)
        except KeyboardInterrupt:
            print("interrupted; the same command resumes", file=sys.stderr)
            raise
        progress.stage("writing the report")
        write_report(prepared.run)
    _show(result.run, prepared.run.state(), prepared.run.path, json_output=json_output)


def _explain(resolved: Resolved[Recipe], *, json_output: bool) -> None:
    if not json_output:
        rows = [
            (row.key, row.value, "" if not row.differs else f"default {row.default}", row.origin)
            for row in resolved.rows
        ]
        output.table(("key", "value", "differs from", "origin"), rows, title=f"recipe hash {resolved.hash[:10]}")
        return
    output.emit(
        {
            "values": resolved.values,
            "origins": {row.key: row.origin for row in resolved.rows},
            "defaults": {row.key: row.default for row in resolved.rows},
            "hash": resolved.hash,
        }
    )


def _show(run_id: str, state: Mapping[str, Any], path: Path, *, json_output: bool) -> None:
    evaluations = state.get("evaluations", {})
    before, after = evaluations.get("before"), evaluations.get("after")
    if json_output:
        output.emit(
            {
                "run": run_id,
                "accuracy_before": _accuracy(before),
                "accuracy_after": _accuracy(after),
                "ci_before": before and before["interval"],
                "ci_after": after and after["interval"],
                "n": after and after["n"],
                "wall_s": round(state["wall_s"], 2),
                "peak_rss_mb": round(state["peak_rss_mb"], 1),
                "path": str(path),
            }
        )
        return
    for label, e in (("before", before), ("after", after)):
        if e:
            low, high = e["interval"] or (None, None)
            constant = e["best_constant"]
            print(
                f"held-out accuracy {label:<6} {output.percent(_accuracy(e)):>7}  95 % [{output.percent(low)}, "
                f"{output.percent(high)}]  n={e['n']}  (best constant answer: {output.percent(constant)})"
            )
    print(f"report: {path / 'report.html'}\nmodel:  {path / 'model'}")


def _accuracy(evaluation: Mapping[str, Any] | None) -> float | None:
    if evaluation is None or not evaluation["n"]:
        return None
    return float(evaluation["successes"]) / float(evaluation["n"])
