"""The rotary decoder family (Llama, Mistral, Qwen2, Qwen3, Gemma) written out for sampling.

Joint projections, no module calls, keys and values written in place. Shape suffixes: T tokens of the pass, P runs,
N tokens of a run, B rows, C columns of context, M = C + N, L layers, H key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from askesis.engines.cache import RowCache
from askesis.engines.kv import Layout
from askesis.policy.weights import Weights, fingerprint

__all__ = ["Attend", "Decoder", "FusedDecoder", "prefix_mask"]

Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


class Decoder(Protocol):
    """Computes logits over keys and values that the engine keeps."""

    @property
    def layout(self) -> Layout:
        """Of keys and values."""
        ...

    @property
    def ragged(self) -> bool:
        """Can read runs of different lengths in one pass, and rows that share a block of keys."""
        ...

    @property
    def num_variants(self) -> int:
        """Sets of weights; a run or a row says by number which continues it."""
        ...

    def changed(self) -> bool:
        """The model's weights are not those of the last :meth:`refresh`."""
        ...

    def refresh(self) -> None:
        """Take over the model's weights as they are now."""
        ...

    def reserve(self, length: int) -> None:
        """Prepare for sequences of this length."""
        ...

    def read(
        self,
        ids_PN: torch.Tensor,
        context_P: torch.Tensor,
        kv: torch.Tensor,
        last_P: torch.Tensor,
        variant_P: torch.Tensor,
    ) -> torch.Tensor:
        """Read runs after their contexts; logits after token ``last`` of each [P, V].

        Args:
            ids_PN: right-padded.
            context_P: how many of the first C columns of ``kv`` hold a run's context.
            kv: [L, 2, P, H, M, D]; the runs' own keys and values are written to the last N columns.
            last_P: index of the token in each run whose successor is wanted.
            variant_P: which weights read each run.
        """
        ...

    def step(
        self, ids_B: torch.Tensor, position_B: torch.Tensor, rows: RowCache, variant_B: torch.Tensor
    ) -> torch.Tensor:
        """Append one token to each of the first B rows; logits of the next [B, V]."""
        ...


def prefix_mask(context_P: torch.Tensor, num_columns: int, length: int) -> torch.Tensor:
    """Who sees whom when runs are read: [P, 1, N, M], True where a query sees a key."""
    device = context_P.device
    context_PC = torch.arange(num_columns, device=device)[None] < context_P[:, None]
    causal_NN = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    shape = (len(context_P), length, -1)
    return torch.cat([context_PC[:, None].expand(shape), causal_NN[None].expand(shape)], -1)[:, None]


class FusedDecoder:
    """A decoder over joint copies of a model's weights.

    Raises:
        Unsupported: the model is not of the family.
    """

    ragged = True
    num_variants = 1

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cis = torch.empty(0)
        self._seen = fingerprint(model)
        with torch.no_grad():
            self._weights = weights = Weights.of(model)
        self._eps = torch.tensor(weights.eps, device=weights.embedding.device)
        self.layout = Layout(
            num_layers=len(weights.layers),
            num_kv_heads=weights.num_kv_heads,
            head_size=weights.head_size,
            dtype=weights.embedding.dtype,
            device=weights.embedding.device,
        )

    def changed(self) -> bool:
        """See :class:`Decoder`."""
        return fingerprint(self._model) != self._seen

    def refresh(self) -> None:
        """See :class:`Decoder`."""
        self._seen = fingerprint(self._model)
        with torch.no_grad():
            self._weights.renew(self._model)  # in place: two copies at once would be the peak of a run's memory

    def reserve(self, length: int) -> None:
        """See :class:`Decoder`."""
        if length <= len(self._cis):
            return
        position = torch.arange(1 << max(length - 1, 255).bit_length(), device=self.layout.device)
        cos, sin = self._weights.rotary(torch.empty(0, device=self.layout.device), position[None])
        half = self.layout.head_size // 2
        self._cis = torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())

    def read(
        self,
        ids_PN: torch.Tensor,
        context_P: torch.Tensor,
        kv: torch.Tensor,
        last_P: torch.Tensor,
        variant_P: torch.Tensor,
    ) -> torch.Tensor:
        """See :class:`Decoder`."""
        num_runs, length = ids_PN.shape
        start = kv.shape[4] - length
        mask = prefix_mask(context_P, start, length) if start else None

        def attend(layer: int, q_THD: torch.Tensor, kv_THD: torch.Tensor) -> torch.Tensor:
            new = kv_THD.unflatten(0, (num_runs, length)).unflatten(2, (2, -1))
            kv[layer, ..., start:, :] = new.permute(2, 0, 3, 1, 4)
            q_PHND = q_THD.unflatten(0, (num_runs, length)).transpose(1, 2)
            out = F.scaled_dot_product_attention(
                q_PHND, kv[layer, 0], kv[layer, 1], attn_mask=mask, is_causal=mask is None, scale=1.0, enable_gqa=True
            )
            return out.transpose(1, 2).reshape(num_runs * length, -1)

        position_PN = context_P[:, None] + torch.arange(length, device=ids_PN.device)
        wanted_P = torch.arange(num_runs, device=ids_PN.device) * length + last_P
        variant_T = variant_P.repeat_interleave(length)
        return self._logits(ids_PN.flatten(), position_PN.flatten(), attend, variant_T, wanted_P)

    def step(
        self, ids_B: torch.Tensor, position_B: torch.Tensor, rows: RowCache, variant_B: torch.Tensor
    ) -> torch.Tensor:
        """See :class:`Decoder`."""
        return self._logits(ids_B, position_B, rows.attend, variant_B, None)

    def _logits(
        self,
        ids_T: torch.Tensor,
        position_T: torch.Tensor,
        attend: Attend,
        variant_T: torch.Tensor,
        wanted_P: torch.Tensor | None,
    ) -> torch.Tensor:
        """Of the tokens ``wanted``, or of all, [P, V]."""
        weights, num_tokens = self._weights, len(ids_T)
        heads, size = weights.num_heads, weights.head_size
        rotated = heads + weights.num_kv_heads
        x = F.embedding(ids_T, weights.embedding)
        if weights.embedding_scale != 1.0:
            x = x * torch.tensor(weights.embedding_scale, dtype=x.dtype)
        cis_T = self._cis[position_T][:, None]
        for index, layer in enumerate(weights.layers):
            qkv_THD = layer.qkv(self._norm(x, layer.norm_in)).view(num_tokens, -1, size)
            self._rotate(qkv_THD[:, :rotated], layer.norm_qk, cis_T)
            x = layer.out.add(x, attend(index, qkv_THD[:, :heads], qkv_THD[:, heads:]))
            gate, up = layer.gate_up(self._norm(x, layer.norm_mlp)).chunk(2, 1)
            x = layer.down.add(x, weights.activation(gate).mul_(up))
        return weights.head(self._norm(x if wanted_P is None else x[wanted_P], weights.norm_out))

    def _rotate(self, qk_THD: torch.Tensor, norm: torch.Tensor | None, cis_T: torch.Tensor) -> None:
        """Norm (if the model has it) and rotate queries and keys in place."""
        x = qk_THD.float()
        if norm is not None:
            x = self._norm(x, None).mul_(norm)
        shape = (*x.shape[:-1], -1, 2)
        pairs = torch.view_as_complex(x.view(shape))
        if qk_THD.dtype == torch.float32:
            torch.mul(pairs, cis_T, out=torch.view_as_complex(qk_THD.view(shape)))
        else:
            qk_THD.copy_(torch.view_as_real(pairs * cis_T).view(x.shape))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Root mean square norm over the last axis."""
        if weight is not None:
            return F.rms_norm(x, x.shape[-1:], weight, self._weights.eps)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # fewer passes than rms_norm takes
        return x * torch.addcmul(self._eps, length, length, value=1 / x.shape[-1]).rsqrt_()
