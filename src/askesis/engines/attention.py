"""Attention in blocks: parts of one softmax, computed apart and merged.

Shape suffixes: B batch, H key-value heads, Q queries of one head, C columns (keys), D head size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["Part", "attend_block", "attend_long", "merge"]


class Part(NamedTuple):
    """A sum of values weighted by exp(score - peak), and the sum of those weights.

    ``out`` is [B, H, Q, D]; ``peak`` and ``mass`` are [B, H, Q, 1], float32; a mass of None means 1.
    """

    out: torch.Tensor
    peak: torch.Tensor
    mass: torch.Tensor | None


def attend_block(
    q_BHQD: torch.Tensor, k_BHCD: torch.Tensor, v_BHCD: torch.Tensor, bias_B1C: torch.Tensor | None
) -> Part:
    """Attention by plain products; best for few queries and keys. Queries come scaled."""
    batch, heads, queries, _ = q_BHQD.shape
    scores = torch.bmm(q_BHQD.flatten(0, 1), k_BHCD.flatten(0, 1).transpose(1, 2)).float()
    if bias_B1C is not None:
        scores.view(batch, heads * queries, -1).add_(bias_B1C)
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp_()
    mass = weights.sum(-1, keepdim=True)
    out = torch.bmm(weights.to(v_BHCD.dtype), v_BHCD.flatten(0, 1))
    shape = (batch, heads, queries, -1)
    return Part(out.view(shape), peak.view(shape), mass.view(shape))


def attend_long(q_PHQD: torch.Tensor, k_PHCD: torch.Tensor, v_PHCD: torch.Tensor, bias_PC: torch.Tensor | None) -> Part:
    """The same, best for many queries and keys: on a CPU the scores are never stored."""
    if q_PHQD.device.type != "cpu":
        return attend_block(q_PHQD, k_PHCD, v_PHCD, None if bias_PC is None else bias_PC[:, None])
    mask = None
    if bias_PC is not None:
        mask = bias_PC.to(q_PHQD.dtype)[:, None, None].expand(-1, 1, q_PHQD.shape[2], -1)
    out, lse_PHQ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q_PHQD, k_PHCD, v_PHCD, 0.0, False, attn_mask=mask, scale=1.0
    )
    return Part(out, lse_PHQ[..., None], None)


def merge(first: Part, second: Part) -> torch.Tensor:
    """The attention over both blocks [B, H, Q, D], float32."""
    peak = torch.maximum(first.peak, second.peak)
    share, rest = (first.peak - peak).exp_(), (second.peak - peak).exp_()
    out = (first.out.float() * share).addcmul_(second.out.float(), rest)
    return out.div_(_mass(first, share) + _mass(second, rest))


def _mass(part: Part, share: torch.Tensor) -> torch.Tensor:
    return share if part.mass is None else part.mass * share
