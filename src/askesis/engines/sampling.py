"""Drawing tokens from logits, row by row, each row from its own stream.

Shape suffixes: B rows, V vocabulary, N blocks of the vocabulary, W width of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch

from askesis.engines.protocol import Sampling

__all__ = ["Controls", "Drawn", "draw"]

_BELOW_ONE = 1 - 2**-50
"""Targets stay below the total, so that the first entry above one belongs to a token of positive probability."""


class Controls(NamedTuple):
    """Sampling parameters of B rows as tensors, and which of them any row uses."""

    temperature_B: torch.Tensor
    top_p_B: torch.Tensor
    top_k_B: torch.Tensor
    greedy_B: torch.Tensor
    heats: bool
    truncates: bool
    chooses: bool

    @classmethod
    def stack(cls, rows: Sequence[Sampling], device: torch.device) -> Controls:
        """One row per sampling setting."""
        return cls(
            temperature_B=torch.tensor([s.temperature or 1.0 for s in rows], device=device),
            top_p_B=torch.tensor([s.top_p for s in rows], device=device),
            top_k_B=torch.tensor([s.top_k for s in rows], dtype=torch.long, device=device),
            greedy_B=torch.tensor([s.temperature == 0 for s in rows], dtype=torch.bool, device=device),
            heats=any(s.temperature not in (0, 1) for s in rows),
            truncates=any(s.top_p < 1 or s.top_k > 0 for s in rows),
            chooses=any(s.temperature == 0 for s in rows),
        )

    def take(self, rows: torch.Tensor) -> Controls:
        """The given rows only."""
        return self._replace(
            temperature_B=self.temperature_B[rows],
            top_p_B=self.top_p_B[rows],
            top_k_B=self.top_k_B[rows],
            greedy_B=self.greedy_B[rows],
        )

    def append(self, other: Controls) -> Controls:
        """These rows, then the other's."""
        return Controls(
            temperature_B=torch.cat([self.temperature_B, other.temperature_B]),
            top_p_B=torch.cat([self.top_p_B, other.top_p_B]),
            top_k_B=torch.cat([self.top_k_B, other.top_k_B]),
            greedy_B=torch.cat([self.greedy_B, other.greedy_B]),
            heats=self.heats or other.heats,
            truncates=self.truncates or other.truncates,
            chooses=self.chooses or other.chooses,
        )


class Drawn(NamedTuple):
    """Token ids [B], their log-probabilities [B] under the distributions drawn from, and which rows were logits [B].

    A row of which ``valid_B`` is False had logits that are not numbers; its token means nothing.
    """

    tokens_B: torch.Tensor
    logprobs_B: torch.Tensor
    valid_B: torch.Tensor


def draw(logits_BV: torch.Tensor, controls: Controls, uniform_B: torch.Tensor) -> Drawn:
    """Inverse-transform sampling: one uniform number in [0, 1) per row decides its token.

    A greedy row takes the most probable token, of which the log-probability is 0: the distribution has one point.
    """
    logits_BV = logits_BV.float()
    if controls.heats:
        logits_BV = logits_BV / controls.temperature_B[:, None]
    p_BV = logits_BV.softmax(-1)
    if controls.truncates:
        p_BV = _truncate(p_BV, controls)
    tokens_B, total_B = _invert(p_BV, uniform_B.double())
    logprobs_B = p_BV.gather(-1, tokens_B[:, None])[:, 0].log()
    if controls.chooses:
        tokens_B = torch.where(controls.greedy_B, logits_BV.argmax(-1), tokens_B)
        logprobs_B = logprobs_B.masked_fill(controls.greedy_B, 0.0)
    return Drawn(tokens_B, logprobs_B, total_B.isfinite())


def _invert(p_BV: torch.Tensor, uniform_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first token whose cumulated probability exceeds ``uniform`` times the total; and the totals, both [B].

    Sums over blocks first, then inside the one block that matters: a cumulated sum over a vocabulary is slow.
    """
    width = _block_width(p_BV.shape[-1])
    p_BNW = p_BV.unflatten(-1, (-1, width))
    sum_BN = p_BNW.sum(-1).double()
    edge_BN = sum_BN.cumsum(-1)
    total_B1 = edge_BN[:, -1:]
    target_B1 = torch.minimum(uniform_B[:, None] * total_B1, total_B1 * _BELOW_ONE)
    block_B1 = torch.searchsorted(edge_BN, target_B1, right=True).clamp_(max=edge_BN.shape[-1] - 1)
    inside_B1 = target_B1 - (edge_BN.gather(1, block_B1) - sum_BN.gather(1, block_B1))
    edge_BW = p_BNW.gather(1, block_B1[:, :, None].expand(-1, 1, width))[:, 0].double().cumsum(-1)
    inside_B1 = torch.minimum(inside_B1, edge_BW[:, -1:] * _BELOW_ONE)
    place_B1 = torch.searchsorted(edge_BW, inside_B1, right=True).clamp_(max=width - 1)
    return (block_B1 * width + place_B1)[:, 0], total_B1[:, 0]


@cache
def _block_width(size: int) -> int:
    """The divisor of ``size`` that is nearest to its square root."""
    return next(w for w in range(math.isqrt(size), 0, -1) if size % w == 0)


def _truncate(p_BV: torch.Tensor, controls: Controls) -> torch.Tensor:
    """Keep the ``top_k`` most probable tokens, then the fewest whose mass reaches ``top_p``; renormalise."""
    size = p_BV.shape[-1]
    sorted_BV, order_BV = p_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(size, device=p_BV.device)
    limit_B = torch.where(controls.top_k_B > 0, controls.top_k_B, size)
    within_BV = sorted_BV * (rank_V[None] < limit_B[:, None])
    within_BV /= within_BV.sum(-1, keepdim=True)
    before_BV = within_BV.cumsum(-1) - within_BV
    within_BV *= (before_BV < controls.top_p_B[:, None]) | (rank_V[None] == 0)
    within_BV /= within_BV.sum(-1, keepdim=True)
    return torch.zeros_like(p_BV).scatter(-1, order_BV, within_BV)
