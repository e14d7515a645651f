"""Several sets of weights of one model in one batch: each token passes through those of its row.

The members of a population, or adapters of one base, are then sampled side by side. A matrix product of all tokens
becomes a batched one, with the tokens of each variant brought together and padded to the largest number; what needs no
weights (attention, rotation) works on the tokens as they come.

Shape suffixes: T tokens of the pass, K variants, N tokens of the variant that has most, E features, P tokens whose
logits are wanted, V vocabulary, H query, key and value heads, D head size.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch

from askesis.engines.decoder import Attend, FusedDecoder
from askesis.policy.weights import Projection

__all__ = ["VariantDecoder"]


class _Grid(NamedTuple):
    """Where the tokens of each variant lie."""

    cell_KN: torch.Tensor
    """The token in each cell; an empty one repeats token 0."""
    place_T: torch.Tensor
    """The cell of each token, counted through [K * N]."""

    @classmethod
    def of(cls, variant_T: torch.Tensor, num_variants: int) -> Self:
        count_K = torch.bincount(variant_T, minlength=num_variants)
        width = int(count_K.max())
        order_T = torch.argsort(variant_T, stable=True)
        index_T = torch.arange(len(variant_T), device=variant_T.device)
        sorted_T, start_K = variant_T[order_T], count_K.cumsum(0) - count_K
        place_T = torch.empty_like(variant_T)
        place_T[order_T] = sorted_T * width + index_T - start_K[sorted_T]
        cell_M = index_T.new_zeros(num_variants * width)
        cell_M[place_T] = index_T
        return cls(cell_M.view(num_variants, width), place_T)


class VariantDecoder(FusedDecoder):
    """A decoder over ``num_variants`` copies of a model's weights. Each has the model's own until :meth:`load`.

    Raises:
        Unsupported: the model is not of the family.
    """

    def __init__(self, model: Any, num_variants: int) -> None:
        super().__init__(model)
        weights = self._weights
        self.num_variants = num_variants
        self._layers = [layer.room(num_variants) for layer in weights.layers]
        self._embedding_KVE = weights.embedding.new_empty(num_variants, *weights.embedding.shape)
        is_tied = weights.head.matrix.data_ptr() == weights.embedding.data_ptr()
        matrix, bias = weights.head
        self._head = Projection(
            self._embedding_KVE.mT if is_tied else matrix.new_empty(num_variants, *matrix.shape),
            None if bias is None else bias.new_empty(num_variants, *bias.shape),
        )
        self._norm_out_KE = weights.norm_out.new_empty(num_variants, len(weights.norm_out))
        self._rows: tuple[torch.Tensor, _Grid] | None = None
        for variant in range(num_variants):
            self.load(variant)

    def changed(self) -> bool:
        """Never: weights come by :meth:`load`."""
        return False

    def refresh(self) -> None:
        """Nothing to do: weights come by :meth:`load`."""

    @torch.no_grad()
    def load(self, variant: int) -> None:
        """Give ``variant`` the weights that the model has now. Only while nothing is sampled."""
        super().refresh()
        weights = self._weights
        self._embedding_KVE[variant].copy_(weights.embedding)
        self._norm_out_KE[variant].copy_(weights.norm_out)
        for own, other in zip(self._head, weights.head, strict=True):
            if own is not None and other is not None:
                own[variant].copy_(other)
        for room, layer in zip(self._layers, weights.layers, strict=True):
            for own, other in zip(room.tensors(), layer.tensors(), strict=True):
                own[variant].copy_(other)

    def _logits(
        self,
        ids_T: torch.Tensor,
        position_T: torch.Tensor,
        attend: Attend,
        variant_T: torch.Tensor,
        wanted_P: torch.Tensor | None,
    ) -> torch.Tensor:
        weights, num_tokens, size = self._weights, len(ids_T), self.layout.head_size
        heads, rotated = weights.num_heads, weights.num_heads + weights.num_kv_heads
        grid = self._grid(variant_T)
        cis_T = self._cis[position_T][:, None]
        x = self._embedding_KVE[torch.arange(self.num_variants, device=ids_T.device)[:, None], ids_T[grid.cell_KN]]
        if weights.embedding_scale != 1.0:
            x = x * torch.tensor(weights.embedding_scale, dtype=x.dtype)
        for index, layer in enumerate(self._layers):
            qkv_KNE = _apply(layer.qkv, self._normed(x, layer.norm_in))
            qkv_THD = qkv_KNE.flatten(0, 1)[grid.place_T].view(num_tokens, -1, size)
            norm_THD = None if layer.norm_qk is None else layer.norm_qk[variant_T]
            self._rotate(qkv_THD[:, :rotated], norm_THD, cis_T)
            attended_TE = attend(index, qkv_THD[:, :heads], qkv_THD[:, heads:])
            x = _apply(layer.out, attended_TE[grid.cell_KN], add_to=x)
            gate, up = _apply(layer.gate_up, self._normed(x, layer.norm_mlp)).chunk(2, -1)
            x = _apply(layer.down, weights.activation(gate).mul_(up), add_to=x)
        if wanted_P is not None:
            x_TE = x.flatten(0, 1)[grid.place_T[wanted_P]]
            grid = _Grid.of(variant_T[wanted_P], self.num_variants)
            x = x_TE[grid.cell_KN]
        logits_KNV = _apply(self._head, self._normed(x, self._norm_out_KE))
        return logits_KNV.flatten(0, 1)[grid.place_T]

    def _grid(self, variant_T: torch.Tensor) -> _Grid:
        """Made once for rows that stay from token to token."""
        if self._rows is None or self._rows[0] is not variant_T:
            self._rows = variant_T, _Grid.of(variant_T, self.num_variants)
        return self._rows[1]

    def _normed(self, x_KNE: torch.Tensor, weight_KE: torch.Tensor | None) -> torch.Tensor:
        normed = self._norm(x_KNE, None)
        return normed if weight_KE is None else normed * weight_KE[:, None]


def _apply(projection: Projection, x_KNE: torch.Tensor, *, add_to: torch.Tensor | None = None) -> torch.Tensor:
    """The linear map of each variant over its own tokens [K, N, out], plus ``add_to``."""
    matrix, bias = projection
    if bias is not None:
        add_to = bias[:, None] if add_to is None else add_to + bias[:, None]
    return torch.bmm(x_KNE, matrix) if add_to is None else torch.baddbmm(add_to, x_KNE, matrix)
