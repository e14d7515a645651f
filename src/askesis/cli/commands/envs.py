"""askesis envs"""

from __future__ import annotations

from typing import Any

from askesis.cli import output
from askesis.environments.protocol import World

__all__ = ["run"]


def run(family: str | None, *, check: bool, json_output: bool) -> int:
    """List worlds and families; describe one family; or hold it to the protocol."""
    from askesis.environments import make_world
    from askesis.environments.reasoning.families import FAMILIES
    from askesis.environments.reasoning.levels import load_levels
    from askesis.environments.registry import world_names

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


def _check(world: World, *, json_output: bool) -> int:
    from askesis.environments import check_environment

    report = check_environment(world)
    columns = ("check", "outcome", "message")
    rows = [(r.name, r.outcome.value, r.message) for r in report.results]
    if json_output:
        output.emit({"ok": report.ok, "checks": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        output.table(columns, rows)
    return 0 if report.ok else output.EXIT_FAILED
