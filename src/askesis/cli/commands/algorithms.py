"""askesis algorithms"""

from __future__ import annotations

from askesis.algorithms import PRESETS, Aggregation, build, estimator_names, objective_names
from askesis.cli import output

__all__ = ["run"]


def run(name: str | None, *, json_output: bool) -> None:
    """List presets, or describe one."""
    if name is not None:
        described = build(name, {}).describe()
        if json_output:
            output.emit(described)
        else:
            output.table(("", name), list(described.items()))
        return
    stages = {
        "estimators": list(estimator_names()),
        "objectives": list(objective_names()),
        "aggregations": [a.value for a in Aggregation],
    }
    if json_output:
        output.emit({"presets": {p.name: build(p.name, {}).describe() for p in PRESETS}, **stages})
        return
    output.table(
        ("preset", "estimator", "objective", "aggregation", "what it does", "source"),
        [(p.name, p.estimator, p.objective, p.aggregation.value, p.summary, p.source) for p in PRESETS],
    )
    output.table(("stage", "choices"), [(stage, ", ".join(names)) for stage, names in stages.items()])
