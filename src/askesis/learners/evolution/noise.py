"""Noise that is never kept: a seed and a place in the model give it again.

Base ES and the published ESSAM start the generator anew for each tensor with the same seed, so that tensors of one
shape get the same noise. Here each block of each tensor has a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from askesis.streams import generator, seed_of

__all__ = ["BLOCK", "Noise", "seeded_noise"]

BLOCK = 1 << 20
"""Elements that are drawn, and added, at a time: what a step needs besides the weights is a few blocks."""

Noise = Callable[[int, str, int, int, torch.device], torch.Tensor]
"""``noise(seed, name, block, size, device)``: standard normal numbers [size], float32."""


def seeded_noise(seed: int, name: str, block: int, size: int, device: torch.device) -> torch.Tensor:
    """Standard normal numbers for block number ``block`` of the tensor ``name``, [size], float32.

    Both generators are Philox, which counts instead of remembering. Numbers drawn on a GPU are others than those drawn
    on a CPU: a run is continued on the kind of device that it was begun on.
    """
    if device.type == "cpu":
        return torch.from_numpy(generator(seed, name, block).standard_normal(size, dtype="float32"))
    source = torch.Generator(device).manual_seed(seed_of(seed, name, block))
    return torch.randn(size, generator=source, device=device)
