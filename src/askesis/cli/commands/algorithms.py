"""askesis algorithms"""

from __future__ import annotations

from askesis.algorithms import (
    PRESETS,
    Aggregation,
    Preset,
    build,
    credit_names,
    estimator_names,
    modulator_names,
    objective_names,
    shaping_names,
)
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
        "shapings": list(shaping_names()),
        "estimators": list(estimator_names()),
        "modulators": list(modulator_names()),
        "credits": list(credit_names()),
        "objectives": list(objective_names()),
        "aggregations": [a.value for a in Aggregation],
    }
    if json_output:
        output.emit({"presets": {p.name: build(p.name, {}).describe() for p in PRESETS}, **stages})
        return
    output.table(
        ("preset", "stages", "what it does", "source"),
        [(p.name, " + ".join(_parts(p)), p.summary, p.source) for p in PRESETS],
    )
    output.table(("stage", "choices"), [(stage, ", ".join(names)) for stage, names in stages.items()])


def _parts(preset: Preset) -> list[str]:
    """The stages of a preset that do something, in the order in which they act."""
    return [name for name in build(preset.name, {}).stages.values() if name != "none"]
