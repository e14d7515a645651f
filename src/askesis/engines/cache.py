"""A preallocated key-value cache for one batch of left-padded sequences."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["SlabCache"]


class SlabCache:
    """Keys and values of all layers, [rows, key-value heads, capacity, head size] each.

    Rows are left-padded to a common end, so one integer says how full every row is. Duck-typed to what decoder models
    of transformers ask of a cache: ``update`` and ``get_seq_length``; masks and positions are given to the model
    explicitly.
    """

    is_compileable = False

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._end = 0
        self._incoming = 0

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [rows, heads, n, size] to ``layer`` and return all of it so far."""
        if layer == len(self._layers):
            shape = (*keys.shape[:2], self._capacity, keys.shape[3])
            self._layers.append((keys.new_zeros(shape), values.new_zeros(shape)))
        known_keys, known_values = self._layers[layer]
        stop = self._end + keys.shape[2]
        known_keys[:, :, self._end : stop] = keys
        known_values[:, :, self._end : stop] = values
        self._incoming = keys.shape[2]
        return known_keys[:, :, :stop], known_values[:, :, :stop]

    def advance(self) -> None:
        """Make what the last forward pass appended part of the past."""
        self._end += self._incoming
        self._incoming = 0

    def take(self, rows: torch.Tensor) -> None:
        """Keep only ``rows`` (in this order; repeats allowed)."""
        self._layers = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self._layers]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens of the past."""
        return self._end

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        """Length and offset of the keys that a query of this length sees."""
        return self._end + query_length, 0
