"""Attention over a packed forest: every token sees its branch, and nothing is computed twice.

Three kernels give the same result:

    blocks  CPU. Each run attends to itself (causal) and all that is below a run attends to it (not causal), by the
            flash kernel of PyTorch; the parts are merged by their log-sum-exp. Memory grows with distinct tokens.
    flex    CUDA. FlexAttention with a block mask made from the subtree ends.
    dense   A boolean mask [N, N] for scaled_dot_product_attention: the reference, and what other devices use.

The backward pass of ``blocks`` calls the flash backward of each block with the *merged* output and log-sum-exp. This is
exact: the probability of key j for query i is exp(score - log-sum-exp of i), whichever block j is in, and all that the
backward pass needs beside it is the row sum of grad * output of the merged result.

Shape suffixes: N packed tokens, H query heads, D head size, B blocks side by side, Q queries and K keys of a block.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from askesis.errors import PolicyError
from askesis.policy.forest import Forest

__all__ = ["KERNELS", "NAME", "TreeMask", "attend", "tree_attention"]

NAME = "askesis_tree"
"""What the attention function is called in the registry of transformers."""
KERNELS = ("blocks", "flex", "dense")

_NEVER = 1e30
"""Log-sum-exp of a padding query: all its probabilities become 0."""
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Blocks:
    """Blocks of one shape, computed side by side. Padding points at token 0 and is never read."""

    query_BQ: Tensor
    """Packed indices of the queries."""
    key_BK: Tensor
    """Packed indices of the keys."""
    is_query_BQ: Tensor | None
    """False on padding; None when there is none."""
    bias_B11K: Tensor | None
    """-inf on padding keys that a query could see; None when there is none."""
    is_causal: bool
    """Keys are the queries themselves, each sees those up to itself."""
    query_M: Tensor
    """Packed indices of the real queries, in order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeMask:
    """Who sees whom in a packed forest, ready for one kernel. Made once per forward pass, used by every layer."""

    kernel: str
    end_N: Tensor
    """[N] int64: token i sees j exactly when ``j <= i < end_N[j]``."""
    longest: int
    """Tokens of the longest branch."""
    blocks: tuple[_Blocks, ...] = ()
    flex: Any = None

    @classmethod
    def of(cls, forest: Forest, device: torch.device, *, kernel: str | None = None) -> TreeMask:
        """The mask of ``forest`` for ``device``; ``kernel`` is chosen by the device unless given."""
        if kernel is None:
            kernel = {"cpu": "blocks", "cuda": "flex"}.get(device.type, "dense")
        end_N = torch.from_numpy(forest.end_N).to(device)
        return cls(
            kernel=kernel,
            end_N=end_N,
            longest=int(forest.position_N.max()) + 1,
            blocks=tuple(_make_blocks(forest, device)) if kernel == "blocks" else (),
            flex=_flex_mask(end_N) if kernel == "flex" else None,
        )

    def dense(self) -> Tensor:
        """[N, N] bool, True where query (first) sees key (second)."""
        token_N = torch.arange(len(self.end_N), device=self.end_N.device)
        return (token_N[None, :] <= token_N[:, None]) & (token_N[:, None] < self.end_N[None, :])


def attend(query: Tensor, key: Tensor, value: Tensor, mask: TreeMask, scale: float | None = None) -> Tensor:
    """Attention over a packed forest.

    Args:
        query: [1, H, N, D] floating point, rotary positions applied.
        key: [1, Hkv, N, D], H a multiple of Hkv.
        value: as ``key``.
        mask: of the same N tokens.
        scale: of the scores; 1 / sqrt(D) by default.

    Returns:
        [1, H, N, D].
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if mask.kernel == "blocks":
        out_NHD: Tensor = _BlockAttention.apply(  # type: ignore[no-untyped-call]
            _tokens_first(query), _tokens_first(key), _tokens_first(value), mask, scale
        )
        return out_NHD.transpose(0, 1)[None]
    grouped = query.shape[1] != key.shape[1]
    if mask.kernel == "flex":
        flex: Tensor = _compiled_flex(query.is_cuda)(
            query, key, value, block_mask=mask.flex, scale=scale, enable_gqa=grouped
        )
        return flex
    return scaled_dot_product_attention(query, key, value, attn_mask=mask.dense(), scale=scale, enable_gqa=grouped)


@contextmanager
def tree_attention(decoder: Any) -> Iterator[None]:
    """Let the layers of ``decoder`` (a transformers model) use :func:`attend` in this block.

    Give the forward pass ``tree=TreeMask``, ``position_ids`` (depths), ``use_cache=False`` and any 4-D attention mask,
    which keeps transformers from making one.
    """
    config = decoder.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _layer_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: TreeMask,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **other: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer."""
    if sliding_window is not None and tree.longest > sliding_window:
        raise _unsupported("a sliding attention window", f"branches of {tree.longest} tokens, window {sliding_window}")
    for name in ("softcap", "s_aux", "position_bias"):
        if other.get(name) is not None:
            raise _unsupported(f"attention with {name!r}", type(module).__name__)
    if dropout:
        raise _unsupported("attention dropout", str(dropout))
    return attend(query, key, value, tree, scaling).transpose(1, 2), None


AttentionInterface.register(NAME, _layer_attention)


def _unsupported(what: str, got: str) -> PolicyError:
    return PolicyError(
        f"tree attention does not do {what}",
        got=got,
        next_step="set learner.packed=false: it trains each branch on its own, with the model's own attention",
    )


def _tokens_first(heads_1HND: Tensor) -> Tensor:
    return heads_1HND[0].transpose(0, 1)


class _BlockAttention(torch.autograd.Function):
    """[N, H, D] in and out."""

    @staticmethod
    def forward(ctx: Any, q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor, mask: TreeMask, scale: float) -> Tensor:
        out_NHD = torch.empty(q_NHD.shape, dtype=torch.promote_types(q_NHD.dtype, torch.float32), device=q_NHD.device)
        lse_NH = torch.empty(q_NHD.shape[:2], dtype=out_NHD.dtype, device=q_NHD.device)
        for block in mask.blocks:
            out, lse = _flash(
                _gather(q_NHD, block.query_BQ),
                _gather(k_NHD, block.key_BK),
                _gather(v_NHD, block.key_BK),
                0.0,
                block.is_causal,
                attn_mask=_bias(block, q_NHD.dtype),
                scale=scale,
            )
            out_MHD, lse_MH = _real(out.transpose(1, 2), block), _real(lse.transpose(1, 2), block).to(lse_NH.dtype)
            if not block.is_causal:  # every token is first in exactly one causal block
                known_MH = lse_NH[block.query_M]
                merged_MH = torch.logaddexp(known_MH, lse_MH)
                out_MHD = out_MHD * (lse_MH - merged_MH).exp_()[..., None]
                out_MHD += out_NHD[block.query_M] * (known_MH - merged_MH).exp_()[..., None]
                lse_MH = merged_MH
            out_NHD[block.query_M] = out_MHD.to(out_NHD.dtype)
            lse_NH[block.query_M] = lse_MH
        result_NHD = out_NHD.to(q_NHD.dtype)
        ctx.save_for_backward(q_NHD, k_NHD, v_NHD, result_NHD, lse_NH)
        ctx.mask, ctx.scale = mask, scale
        return result_NHD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q_NHD, k_NHD, v_NHD, out_NHD, lse_NH = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.zeros(t.shape, dtype=lse_NH.dtype) for t in (q_NHD, k_NHD, v_NHD))
        for block in ctx.mask.blocks:
            lse_BQH = lse_NH[block.query_BQ]
            if block.is_query_BQ is not None:
                lse_BQH = lse_BQH.masked_fill(~block.is_query_BQ[..., None], _NEVER)
            parts = _flash_backward(
                _gather(grads[0], block.query_BQ),
                _gather(q_NHD, block.query_BQ),
                _gather(k_NHD, block.key_BK),
                _gather(v_NHD, block.key_BK),
                _gather(out_NHD, block.query_BQ),
                lse_BQH.transpose(1, 2).contiguous(),
                0.0,
                block.is_causal,
                attn_mask=_bias(block, q_NHD.dtype),
                scale=ctx.scale,
            )
            for total, part, at in zip(
                (grad_q, grad_k, grad_v), parts, (block.query_BQ, block.key_BK, block.key_BK), strict=True
            ):
                total.index_add_(0, at.flatten(), part.transpose(1, 2).flatten(0, 1).to(total.dtype))
        return (*(g.to(q_NHD.dtype) for g in (grad_q, grad_k, grad_v)), None, None)  # type: ignore[return-value]


def _gather(tokens_NHD: Tensor, at_BL: Tensor) -> Tensor:
    """[B, H, L, D] of the tokens at these indices."""
    picked_NHD = tokens_NHD.index_select(0, at_BL.flatten())
    return picked_NHD.view(*at_BL.shape, *tokens_NHD.shape[1:]).transpose(1, 2)


def _real(values_BQ: Tensor, block: _Blocks) -> Tensor:
    """[M, ...]: without padding."""
    return values_BQ.flatten(0, 1) if block.is_query_BQ is None else values_BQ[block.is_query_BQ]


def _bias(block: _Blocks, dtype: torch.dtype) -> Tensor | None:
    return None if block.bias_B11K is None else block.bias_B11K.to(dtype)


def _make_blocks(forest: Forest, device: torch.device) -> Iterator[_Blocks]:
    """The causal blocks of all runs, then, level by level, the blocks of all that is below a run.

    Blocks of similar size are padded to one. On one level no token is a query twice, so they can be merged at once.
    """
    spans: dict[tuple[int, int, int], list[tuple[int, int, int, int]]] = defaultdict(list)
    for start, stop, end, level in zip(forest.start_R, forest.stop_R, forest.end_R, forest.level_R, strict=True):
        size = _rounded(int(stop - start))
        spans[-1, size, size].append((start, stop, start, stop))
        if end > stop:
            spans[int(level), _rounded(int(end - stop)), size].append((stop, end, start, stop))
    for (level, _, _), members in sorted(spans.items()):
        yield _pad_blocks(members, device, is_causal=level < 0)


def _rounded(size: int) -> int:
    """``size`` rounded up to two significant bits, so that padding stays below a third."""
    step = 1 << max(size.bit_length() - 2, 0)
    return -(-size // step) * step


def _pad_blocks(members: Sequence[tuple[int, int, int, int]], device: torch.device, *, is_causal: bool) -> _Blocks:
    query_BQ, is_query_BQ = _pad_spans([(a, b) for a, b, _, _ in members])
    key_BK, is_key_BK = _pad_spans([(a, b) for _, _, a, b in members])
    bias = None
    if not is_causal and not is_key_BK.all():
        bias = torch.from_numpy(np.where(is_key_BK, np.float32(0), np.float32(-np.inf)))[:, None, None].to(device)
    return _Blocks(
        query_BQ=torch.from_numpy(query_BQ).to(device),
        key_BK=torch.from_numpy(key_BK).to(device),
        is_query_BQ=None if is_query_BQ.all() else torch.from_numpy(is_query_BQ).to(device),
        bias_B11K=bias,
        is_causal=is_causal,
        query_M=torch.from_numpy(query_BQ[is_query_BQ]).to(device),
    )


def _pad_spans(spans: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
    """Indices [B, L] of the tokens in each span, and which of them are not padding."""
    first_B1 = np.array([a for a, _ in spans])[:, None]
    size_B1 = np.array([b - a for a, b in spans])[:, None]
    offset_1L = np.arange(size_B1.max())[None]
    is_real_BL = offset_1L < size_B1
    return np.where(is_real_BL, first_B1 + offset_1L, 0), is_real_BL


def _flex_mask(end_N: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end_N[key])

    size = len(end_N)
    return create_block_mask(sees, B=None, H=None, Q_LEN=size, KV_LEN=size, device=end_N.device)


@cache
def _compiled_flex(compile_it: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    function: Any = flex_attention
    return torch.compile(function, dynamic=True) if compile_it else function
