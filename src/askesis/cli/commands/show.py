"""askesis show"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from askesis.cli import output
from askesis.errors import RecipeError
from askesis.store import Store, messages_of
from askesis.training.rundir import find_run

__all__ = ["run"]


def run(name: str, trace: str | None, *, limit: int, timeline: bool = False, json_output: bool) -> None:
    """Show a run's state and newest traces, or one trace whole, or where its time went."""
    found = find_run(name)
    identity = found.identity()
    with Store.open(found.store_target, create=False, read_only=True) as store:
        if trace is not None:
            _show_trace(store, identity["run_id"], trace, json_output=json_output)
            return
        if timeline:
            _show_timeline(store.metrics(identity["run_id"]), json_output=json_output)
            return
        metrics = {key: series[-1][1] for key, series in store.metrics(identity["run_id"]).items() if series}
        traces = [asdict(t) for t in store.trace_summaries(identity["run_id"], limit=limit)]
        head = store.head()
    state = found.state()
    if json_output:
        output.emit({"identity": identity, "state": state, "metrics": metrics, "traces": traces, "head": asdict(head)})
        return
    output.table(
        ("", identity["run_id"]),
        [
            ("folder", found.path),
            ("status", state.get("status")),
            ("step", state.get("step")),
            ("recipe hash", identity["recipe_hash"][:10]),
            ("store", f"{head.size} records, root {head.root[:12]}"),
            ("error", state.get("error")),
        ],
    )
    if metrics:
        output.table(("metric", "last value"), [(k, "–" if v is None else f"{v:.5g}") for k, v in metrics.items()])
    columns = ("trace_id", "task_key", "stop", "failure", "num_sampled", "reward")
    output.table(columns, [tuple(t[c] for c in columns) for t in traces])


def _show_timeline(series: Mapping[str, Sequence[tuple[int, float | None]]], *, json_output: bool) -> None:
    from askesis.training.observe.top import timeline_table
    from askesis.training.report.timeline import timeline_of

    found = timeline_of(series)
    if json_output:
        output.emit({"timeline": None if found is None else asdict(found)})
    elif found is None:
        print("no step of this run says where its time went")
    else:
        from rich.console import Console

        Console().print(timeline_table(found, title=f"{found.num_steps} steps"))


def _show_trace(store: Store, run_id: str, ending: str, *, json_output: bool) -> None:
    trace_id = ending if ending.startswith(run_id) else f"{run_id}/{ending}"
    group = store.group(trace_id.rpartition("/")[0])
    member = next((m for m in group.members if group.trace_id(m) == trace_id), None) if group else None
    if group is None or member is None:
        raise RecipeError(
            "there is no such trace",
            got=ending,
            expected=f"for example {run_id}/train/000000/0000/0",
            next_step="`askesis show RUN` lists traces",
        )
    record: dict[str, Any] = {
        "trace_id": trace_id,
        "stop": member.trace.stop.value,
        "reward": member.verdict.reward,
        "failure": None if member.verdict.error is None else member.verdict.error.message,
        "branches": [messages_of(member.trace, leaf) for leaf in member.trace.leaves()],
    }
    if json_output:
        output.emit(record)
        return
    output.table(("", trace_id), [(k, v) for k, v in record.items() if k != "branches"])
    for messages in record["branches"]:
        output.table(("role", "content"), [(m["role"], m["content"]) for m in messages])
