"""askesis evaluate"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from askesis.cli import output
from askesis.cli.policies import policy_name, recipe_of
from askesis.recipe import load_recipe

__all__ = ["run"]


def run(policy: str, recipe: Path | None, overrides: Sequence[str], *, json_output: bool) -> None:
    """Measure ``policy`` in the recipe's world and print the result; nothing is stored."""
    own = recipe_of(policy) if recipe is None else []
    resolved = load_recipe(recipe, [*own, *overrides, f"policy.name={json.dumps(policy_name(policy))}"])
    from askesis.policy.folder import resolve_name
    from askesis.training.preflight import open_world

    world = open_world(resolved.recipe)
    resolve_name(resolved.recipe.policy.name)
    from askesis.training.evaluating import evaluate_policy

    result = asyncio.run(evaluate_policy(resolved.recipe, world))
    low, high = result.interval or (None, None)
    if json_output:
        output.emit({**asdict(result), "accuracy": result.accuracy, "policy": policy, "hash": resolved.hash})
        return
    section = resolved.recipe.environment
    rows: list[tuple[str, object]] = [
        ("world", f"{section.name}, {section.family}, level {section.level}"),
        ("accuracy", f"{output.percent(result.accuracy)}  95 % [{output.percent(low)}, {output.percent(high)}]"),
        ("answers", f"{result.n} held out, temperature {result.temperature}, {result.errors} failed"),
        ("best constant answer", output.percent(result.best_constant)),
        ("answers in the asked format", output.percent(result.format_share)),
        ("answers that think first", output.percent(result.think_share)),
        *((f"pass@{k}", output.percent(estimate.value)) for k, estimate in result.pass_at_k.items()),
    ]
    output.table(("", policy), rows)
