"""askesis envs"""

from __future__ import annotations

from typing import Any

from askesis.cli import output

__all__ = ["run"]


def run(family: str | None, *, check: bool, json_output: bool) -> int:
    """List worlds and families; describe one family; or hold it to the protocol."""
    from askesis.environments import make_world
    from askesis.environments.registry import world_names
    from askesis.environments.reasoning.families import FAMILIES
    from askesis.environments.reasoning.levels import load_levels

    levels = load_levels()
    if family is None:
        if json_output:
            output.emit({"worlds": world_names(), "families": list(FAMILIES), "nano_knows": sorted(levels)})
        else:
            print(
                f"worlds: {', '.join(world_names())}\n\nfamilies of `reasoning` (* the built-in policy was trained on):"
            )
            print("  " + "  ".join(f"{name}{'*' if name in levels else ''}" for name in FAMILIES))
        return 0
    world = make_world("reasoning", family=family, level="nano", instruction="")
    if check:
        return _check(world, json_output=json_output)
    task = world.tasks.task("train", 0)
    facts: dict[str, Any] = {
        "question": task.payload["question"],
        "answer": task.payload.get("answer"),
        "level nano": levels.get(family, "the family's defaults"),
    }
    if json_output:
        output.emit({"family": family, **facts})
    else:
        output.table(("", family), list(facts.items()))
    return 0


def _check(world: Any, *, json_output: bool) -> int:
    from askesis.environments.check import check_environment

    report = check_environment(world)
    rows = [(c.name, c.status, c.detail) for c in report.checks]
    if json_output:
        output.emit(
            {"ok": report.ok, "checks": [dict(zip(("check", "status", "detail"), r, strict=True)) for r in rows]}
        )
    else:
        output.table(("check", "status", "detail"), rows)
    return 0 if report.ok else output.EXIT_FAILED
