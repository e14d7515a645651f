"""Numbers so small that processors are slow with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["denormals_as_zero"]


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Inside, numbers below the smallest normal one count as 0, in the whole process.

    The tails of a softmax, and so mixtures far from most of their centres, are full of them; some processors take a
    hundred times as long for each.
    """
    before = _are_zero()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _are_zero() -> bool:
    return float(torch.tensor(5e-324, dtype=torch.float64) * 1) == 0.0
