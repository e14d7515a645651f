"""The preallocated cache."""

from __future__ import annotations

import torch

from askesis.engines.cache import SlabCache


def block(start: float, rows: int, length: int) -> torch.Tensor:
    return torch.arange(start, start + rows * length).reshape(rows, 1, length, 1)


def test_appending_and_choosing_rows() -> None:
    cache = SlabCache(5)
    keys, values = cache.update(block(0, 2, 3), block(100, 2, 3), 0)
    assert keys.shape == values.shape == (2, 1, 3, 1) and cache.get_seq_length() == 0
    cache.advance()
    assert cache.get_seq_length() == 3 and cache.get_mask_sizes(1) == (4, 0)
    cache.take(torch.tensor([1, 1, 0]))
    keys, values = cache.update(block(50, 3, 1), block(60, 3, 1), 0)
    assert keys[:, 0, :, 0].tolist() == [[3, 4, 5, 50], [3, 4, 5, 51], [0, 1, 2, 52]]
    assert values[:, 0, :, 0].tolist() == [[103, 104, 105, 60], [103, 104, 105, 61], [100, 101, 102, 62]]


def test_layers_are_filled_in_step() -> None:
    cache = SlabCache(2)
    for layer in (0, 1):
        cache.update(block(layer, 1, 1), block(layer, 1, 1), layer)
    cache.advance()
    keys, _ = cache.update(block(9, 1, 1), block(9, 1, 1), 1)
    assert cache.get_seq_length() == 1 and keys[0, 0, :, 0].tolist() == [1, 9]
