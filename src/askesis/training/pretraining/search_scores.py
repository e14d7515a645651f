"""How well a policy answers held-out questions of the chain world: for each context and each number of hops."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from askesis.environments.search.demonstrations import INSTRUCTION
from askesis.recipe import Recipe
from askesis.training.evaluating import evaluate_policy
from askesis.training.preflight import open_world

__all__ = ["SearchScore", "evaluate_searching", "search_recipe", "search_table"]

Shown = Literal["full", "compact_memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchScore:
    """Shares of held-out questions with the right name: greedy, and at temperature 1."""

    context: str
    hops: int
    tasks: int
    greedy: float
    sampled: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain values."""
        return asdict(self)


def search_recipe(policy: str, *, context: Shown, hops: int, tasks: int, temperature: float, seed: int) -> Recipe:
    """The world ``search`` at level ``nano`` with questions of ``hops`` facts, and the instruction that was shown."""
    return Recipe.model_validate(
        {
            "run": {"seed": seed},
            "policy": {"name": policy, "device": "cpu"},
            "environment": {
                "name": "search",
                "family": "chain",
                "options": {"retriever": "fts5", "min_hops": hops, "max_hops": hops, "reward": "f1"},
            },
            "agent": {
                "context": context,
                "instruction": INSTRUCTION,
                "memory_request": "",
                "memory_tokens": 80,
                "max_tool_calls": hops + 2,
            },
            "sampling": {"max_tokens": 48},
            "rollout": {"max_turns": 2 * hops + 6},
            "evaluation": {"num_tasks": tasks, "temperature": temperature},
        }
    )


def evaluate_searching(policy: Path, hops: Sequence[int], *, tasks: int, seed: int) -> list[SearchScore]:
    """Score the policy in a folder. Deterministic for a seed."""

    def share(context: Shown, count: int, temperature: float) -> float:
        recipe = search_recipe(
            str(policy), context=context, hops=count, tasks=tasks, temperature=temperature, seed=seed
        )
        return asyncio.run(evaluate_policy(recipe, open_world(recipe))).accuracy or 0.0

    contexts: tuple[Shown, ...] = ("full", "compact_memory")
    return [
        SearchScore(
            context=context,
            hops=count,
            tasks=tasks,
            greedy=share(context, count, 0.0),
            sampled=share(context, count, 1.0),
        )
        for context in contexts
        for count in hops
    ]


def search_table(scores: Sequence[SearchScore]) -> str:
    """The scores as plain text; accuracies in per cent."""
    lines = [f"{'search, context':<24}{'hops':>6}{'greedy':>8}{'T=1':>8}"]
    lines += [f"{s.context:<24}{s.hops:>6}{100 * s.greedy:>8.1f}{100 * s.sampled:>8.1f}" for s in scores]
    return "\n".join(lines)
