"""What a training step holds in memory, counted: evolution and the gradient learner, for models of 0.5 to 32 billion.

Prints the Markdown table of ``docs/evolution_strategies.md``. Nothing is measured here; ``es_memory`` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from askesis.learners.evolution.noise import BLOCK

__all__ = ["MODELS", "TOKENS", "Model", "evolution_bytes", "file_bytes", "gradient_bytes", "table"]

TOKENS = 64 * 1024
"""Whose keys and values are held: 64 sequences of 1,024 tokens."""
_BLOCKS = 6 * 4 * BLOCK
"""A block of the centre, one of noise, one of their sum, and one in double precision for a norm, with room for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder's size, as its published configuration gives it."""

    name: str
    parameters: float
    """In billions."""
    layers: int
    kv_heads: int
    head_size: int

    @property
    def kv_numbers(self) -> int:
        """Keys and values of all tokens."""
        return TOKENS * 2 * self.layers * self.kv_heads * self.head_size


MODELS = (
    Model(name="Qwen2.5-0.5B", parameters=0.494, layers=24, kv_heads=2, head_size=64),
    Model(name="Qwen2.5-1.5B", parameters=1.54, layers=28, kv_heads=2, head_size=128),
    Model(name="Qwen2.5-3B", parameters=3.09, layers=36, kv_heads=2, head_size=128),
    Model(name="Qwen2.5-7B", parameters=7.62, layers=28, kv_heads=4, head_size=128),
    Model(name="Qwen2.5-14B", parameters=14.8, layers=48, kv_heads=8, head_size=128),
    Model(name="Qwen2.5-32B", parameters=32.8, layers=64, kv_heads=8, head_size=128),
)


def evolution_bytes(model: Model) -> float:
    """bfloat16 weights, the embedded engine's joint copy of them, keys and values, and a few blocks of noise."""
    return 2 * 2 * model.parameters * 1e9 + 2 * model.kv_numbers + _BLOCKS


def file_bytes(model: Model, *, displaced: bool) -> float:
    """The file that holds the centre in float32; ESSAM's second place in it doubles it."""
    return (8 if displaced else 4) * model.parameters * 1e9


def gradient_bytes(model: Model) -> float:
    """All parameters trained, in float32: weights, the engine's copy, gradient and AdamW's two moments, keys and
    values. Activations come on top.
    """
    return 5 * 4 * model.parameters * 1e9 + 4 * model.kv_numbers


def table() -> str:
    """Markdown, in GiB."""
    rows = [
        "| model | weights, bfloat16 | evolution, in memory | its file, ES / ESSAM | gradient, without activations |",
        "|---|---|---|---|---|",
    ]
    for model in MODELS:
        sizes = (2e9 * model.parameters, evolution_bytes(model), gradient_bytes(model))
        weights, evolution, gradient = (f"{size / 2**30:.1f}" for size in sizes)
        files = " / ".join(f"{file_bytes(model, displaced=d) / 2**30:.1f}" for d in (False, True))
        rows.append(f"| {model.name} | {weights} | {evolution} | {files} | {gradient} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
