"""The floor: floating-point operations of the distinct tokens, over a matrix product's measured rate.

A forward pass multiplies each token with every linear parameter (2 operations each) and attends to its context
(4 x heads x head size operations per position and layer: scores and weighted values). A backward pass costs twice
the forward pass. Predicting costs 2 x hidden x vocabulary per sampled token.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.models import Shape
from benchmarks.workload import Grpo, Turns

__all__ = ["forward", "grpo_step", "sampling", "turns_update"]

_TRAINING = 3
"""Forward and backward, in forward passes."""


def forward(shape: Shape, runs: Iterable[tuple[int, int]], predicted: int) -> float:
    """Operations of one pass over runs of (depth of the first token, number of tokens)."""
    total = 2.0 * shape.hidden * shape.vocabulary * predicted
    for depth, size in runs:
        attended = size * depth + size * (size + 1) / 2
        total += 2.0 * shape.linear * size + 4.0 * shape.layers * shape.heads * shape.head_size * attended
    return total


def _answers(load: Grpo) -> list[tuple[int, int]]:
    return [(0, load.prompt_tokens), *[(load.prompt_tokens, load.new_tokens)] * load.group] * load.prompts


def sampling(shape: Shape, load: Grpo) -> float:
    """Read each prompt once, then each sampled token once."""
    return forward(shape, _answers(load), load.prompts * load.group * load.new_tokens)


def grpo_step(shape: Shape, load: Grpo) -> float:
    """Sampling and one update."""
    return (1 + _TRAINING) * sampling(shape, load)


def turns_update(shape: Shape, load: Turns) -> float:
    """One update on finished conversations."""
    runs = []
    length = load.turns * load.action + (load.turns - 1) * load.observation
    for _ in range(load.prompts):
        runs += [(0, load.first), *[(load.first, length)] * load.members]
    return _TRAINING * forward(shape, runs, load.prompts * load.members * load.turns * load.action)
