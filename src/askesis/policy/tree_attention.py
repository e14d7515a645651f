"""Attention over a packed forest: every token sees its branch, and nothing is computed twice.

Three kernels give the same result:

    blocks  CPU. Each run attends to itself (causal) and all that is below a run attends to it (not causal), by the
            flash kernel of PyTorch; the parts are merged by their log-sum-exp. Memory grows with distinct tokens.
    flex    CUDA. FlexAttention with a block mask made from the subtree ends.
    dense   A boolean mask [N, N] for scaled_dot_product_attention: the reference, and what other devices use.

The backward pass of ``blocks`` calls the flash backward of each block with the *merged* output and log-sum-exp. This is
exact: the probability of key j for query i is exp(score - log-sum-exp of i), whichever block j is in, and all that the
backward pass needs beside it is the row sum of grad * output of the merged result.

Shape suffixes: N packed tokens, H query heads, R query, key and value heads, D head size, B blocks side by side,
Q queries and K keys of a block, M tokens of blocks without padding.
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
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from askesis.errors import PolicyError
from askesis.policy.forest import Forest

__all__ = ["KERNELS", "NAME", "TreeMask", "attend", "attend_joint", "tree_attention"]

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

    query: _Places
    key: _Places
    bias_B11K: Tensor | None
    """-inf on padding keys that a query could see; None when there is none."""
    is_causal: bool
    """Keys are the queries themselves, each sees those up to itself."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Places:
    """Where the tokens of B blocks of length L stand in the packed forest."""

    at_BL: Tensor
    """Packed indices."""
    is_real_BL: Tensor | None
    """False on padding; None when there is none."""
    real_M: Tensor
    """Packed indices without padding."""
    kept_M: Tensor | None
    """Where those stand among the B * L; None when they are all."""
    span: slice | None
    """The packed indices as a slice where there is one block, which spares copies."""

    def take(self, tokens_NRD: Tensor) -> Tensor:
        """[B, L, R, D]."""
        if self.span is not None:
            return tokens_NRD[None, self.span]
        return tokens_NRD.index_select(0, self.at_BL.flatten()).view(*self.at_BL.shape, *tokens_NRD.shape[1:])

    def take_real(self, tokens_NR: Tensor) -> Tensor:
        """[M, R, ...]."""
        return tokens_NR.index_select(0, self.real_M) if self.span is None else tokens_NR[self.span]

    def drop_padding(self, values_BL: Tensor) -> Tensor:
        """[M, ...] of [B, L, ...]."""
        flat = values_BL.flatten(0, 1)
        return flat if self.kept_M is None else flat.index_select(0, self.kept_M)

    def put(self, tokens_NR: Tensor, values_MR: Tensor) -> None:
        """Write, where no token was written before."""
        if self.span is None:
            tokens_NR.index_copy_(0, self.real_M, values_MR)
        else:
            tokens_NR[self.span] = values_MR

    def add(self, tokens_NR: Tensor, values_MR: Tensor) -> None:
        """Add to what is there."""
        if self.span is None:
            tokens_NR.index_add_(0, self.real_M, values_MR)
        else:
            tokens_NR[self.span] += values_MR


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
        joint_NRD = torch.cat([t[0].transpose(0, 1) for t in (query, key, value)], dim=1)
        return attend_joint(joint_NRD, query.shape[1], mask, scale=scale).transpose(0, 1)[None]
    grouped = query.shape[1] != key.shape[1]
    if mask.kernel == "flex":
        flex: Tensor = _compiled_flex(query.is_cuda)(
            query, key, value, block_mask=mask.flex, scale=scale, enable_gqa=grouped
        )
        return flex
    return scaled_dot_product_attention(query, key, value, attn_mask=mask.dense(), scale=scale, enable_gqa=grouped)


def attend_joint(qkv_NRD: Tensor, num_heads: int, mask: TreeMask, *, scale: float) -> Tensor:
    """:func:`attend` on queries, keys and values side by side, by the kernel ``blocks``.

    Args:
        qkv_NRD: [N, R, D]: ``num_heads`` queries, then keys, then as many values.
        num_heads: H.
        mask: of the same N tokens.
        scale: of the scores.

    Returns:
        [N, H, D].
    """
    out_NHD: Tensor = _BlockAttention.apply(qkv_NRD, num_heads, mask, scale)  # type: ignore[no-untyped-call]
    return out_NHD


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


class _BlockAttention(torch.autograd.Function):
    """From [N, R, D] to [N, H, D]."""

    @staticmethod
    def forward(ctx: Any, qkv_NRD: Tensor, num_heads: int, mask: TreeMask, scale: float) -> Tensor:
        wide = torch.promote_types(qkv_NRD.dtype, torch.float32)
        out_NHD = torch.empty_like(qkv_NRD[:, :num_heads], dtype=wide)
        lse_NH = torch.empty(out_NHD.shape[:2], dtype=wide, device=qkv_NRD.device)
        for block in mask.blocks:
            out, lse = _flash(
                *_heads(qkv_NRD, num_heads, block), 0.0, block.is_causal, **_options(block, qkv_NRD, scale)
            )
            query = block.query
            out_MHD = query.drop_padding(out.transpose(1, 2)).to(wide)
            lse_MH = query.drop_padding(lse.transpose(1, 2)).to(wide)
            if not block.is_causal:  # every token has been a query in exactly one causal block
                known_MH, known_MHD = query.take_real(lse_NH), query.take_real(out_NHD)
                merged_MH = torch.logaddexp(known_MH, lse_MH)
                out_MHD = torch.lerp(known_MHD, out_MHD, (lse_MH - merged_MH).exp_()[..., None])
                lse_MH = merged_MH
            query.put(out_NHD, out_MHD)
            query.put(lse_NH, lse_MH)
        result_NHD = out_NHD.to(qkv_NRD.dtype)
        ctx.save_for_backward(qkv_NRD, result_NHD, lse_NH)
        ctx.num_heads, ctx.mask, ctx.scale = num_heads, mask, scale
        return result_NHD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        qkv_NRD, out_NHD, lse_NH = ctx.saved_tensors
        num_heads = ctx.num_heads
        grad_NRD = torch.empty_like(qkv_NRD, dtype=lse_NH.dtype)
        for block in ctx.mask.blocks:
            query, key = block.query, block.key
            lse_BQH = query.take(lse_NH[..., None])[..., 0]
            if query.is_real_BL is not None:
                lse_BQH = lse_BQH.masked_fill(~query.is_real_BL[..., None], _NEVER)
            grad_q, grad_k, grad_v = _flash_backward(
                query.take(grads[0]).transpose(1, 2),
                *_heads(qkv_NRD, num_heads, block),
                query.take(out_NHD).transpose(1, 2),
                lse_BQH.transpose(1, 2).contiguous(),
                0.0,
                block.is_causal,
                **_options(block, qkv_NRD, ctx.scale),
            )
            if block.is_causal:  # they come first and hold every token once: nothing has to be cleared before
                whole = torch.cat([grad_q, grad_k, grad_v], 1).transpose(1, 2)
                query.put(grad_NRD, query.drop_padding(whole).to(grad_NRD.dtype))
            else:
                grad_kv = torch.cat([grad_k, grad_v], 1).transpose(1, 2)
                query.add(grad_NRD[:, :num_heads], query.drop_padding(grad_q.transpose(1, 2)).to(grad_NRD.dtype))
                key.add(grad_NRD[:, num_heads:], key.drop_padding(grad_kv).to(grad_NRD.dtype))
        return grad_NRD.to(qkv_NRD.dtype), None, None, None


def _heads(qkv_NRD: Tensor, num_heads: int, block: _Blocks) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, H, Q, D], keys and values [B, Hkv, K, D] of a block."""
    num_kv_heads = (qkv_NRD.shape[1] - num_heads) // 2
    sizes = [num_heads, num_kv_heads, num_kv_heads]
    if block.is_causal:
        q, k, v = block.query.take(qkv_NRD).transpose(1, 2).split(sizes, dim=1)
        return q, k, v
    q = block.query.take(qkv_NRD[:, :num_heads]).transpose(1, 2)
    k, v = block.key.take(qkv_NRD[:, num_heads:]).transpose(1, 2).chunk(2, dim=1)
    return q, k, v


def _options(block: _Blocks, like: Tensor, scale: float) -> dict[str, Any]:
    bias = block.bias_B11K
    return {"attn_mask": None if bias is None else bias.to(like.dtype), "scale": scale}


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
    query = _places([(a, b) for a, b, _, _ in members], device)
    key = query if is_causal else _places([(a, b) for _, _, a, b in members], device)
    bias = None
    if not is_causal and key.is_real_BL is not None:
        bias = torch.zeros(key.is_real_BL.shape, device=device).masked_fill(~key.is_real_BL, -math.inf)[:, None, None]
    return _Blocks(query=query, key=key, bias_B11K=bias, is_causal=is_causal)


def _places(spans: Sequence[tuple[int, int]], device: torch.device) -> _Places:
    first_B1 = np.array([a for a, _ in spans])[:, None]
    size_B1 = np.array([b - a for a, b in spans])[:, None]
    offset_1L = np.arange(size_B1.max())[None]
    is_real_BL = offset_1L < size_B1
    at_BL = np.where(is_real_BL, first_B1 + offset_1L, 0)
    has_padding = not is_real_BL.all()

    def tensor(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return _Places(
        at_BL=tensor(at_BL),
        is_real_BL=tensor(is_real_BL) if has_padding else None,
        real_M=tensor(at_BL[is_real_BL]),
        kept_M=tensor(is_real_BL.flatten().nonzero()[0]) if has_padding else None,
        span=slice(*spans[0]) if len(spans) == 1 else None,
    )


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
