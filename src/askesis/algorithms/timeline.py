"""Trajectories as lines of sampled tokens in the order of time, whatever rows they lie in.

Shape suffixes beside those of the package: L sampled tokens of a trajectory, padding behind included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from askesis.algorithms.types import TokenBatch

__all__ = ["Timeline", "generalised_advantages", "to_go", "whiten"]

_VARIANCE_EPS = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Where each sampled token stands in its trajectory.

    Only sampled tokens have a place: what a trajectory was told between two of them is skipped, also where its next
    call begins a context of its own.
    """

    mask_BT: Tensor
    is_real_SL: Tensor
    """bool, False on padding."""
    sequence_S: Tensor
    """int64: row of the reward batch."""
    _row_N: Tensor
    _column_N: Tensor

    @classmethod
    def of(cls, tokens: TokenBatch) -> Timeline:
        """The lines of all trajectories that have a sampled token."""
        mask_BT = tokens.mask_BT
        sequence_N = tokens.sequence_B[:, None].expand_as(mask_BT)[mask_BT]
        sequence_S, row_N = torch.unique(sequence_N, return_inverse=True)
        # Calls are numbered in time, and the tokens of a call stand in one row, in order.
        in_time_N = torch.argsort(tokens.turn_BT[mask_BT], stable=True)
        in_time_N = in_time_N[torch.argsort(row_N[in_time_N], stable=True)]
        size_S = torch.bincount(row_N, minlength=len(sequence_S))
        start_S = size_S.cumsum(0) - size_S
        place_N = torch.arange(len(row_N), device=row_N.device)
        column_N = torch.empty_like(row_N).index_copy(0, in_time_N, place_N - start_S[row_N[in_time_N]])
        longest = int(size_S.max()) if len(size_S) else 0
        is_real_SL = torch.arange(longest, device=row_N.device) < size_S[:, None]
        return cls(mask_BT=mask_BT, is_real_SL=is_real_SL, sequence_S=sequence_S, _row_N=row_N, _column_N=column_N)

    def lay(self, value_BT: Tensor, *, padding: float = 0.0) -> Tensor:
        """[S, L] of a value of each sampled token; floats become float64."""
        value_N = value_BT[self.mask_BT]
        value_N = value_N.double() if value_N.is_floating_point() else value_N
        table_SL = torch.full(self.is_real_SL.shape, padding, dtype=value_N.dtype, device=value_N.device)
        return table_SL.index_put((self._row_N, self._column_N), value_N)

    def take(self, value_SL: Tensor, like: Tensor) -> Tensor:
        """The inverse of :meth:`lay`, in the type of ``like``; 0 where nothing was sampled."""
        value_N = value_SL[self._row_N, self._column_N].to(like.dtype)
        empty_BT = torch.zeros(self.mask_BT.shape, dtype=like.dtype, device=self.mask_BT.device)
        return empty_BT.masked_scatter(self.mask_BT, value_N)

    def is_last_of(self, label_SL: Tensor) -> Tensor:
        """[S, L] bool: the real tokens after which ``label_SL`` (int64, never below 0) changes or the line ends."""
        label_SL = torch.where(self.is_real_SL, label_SL, -1)
        following_SL = torch.nn.functional.pad(label_SL[:, 1:], (0, 1), value=-1)
        return self.is_real_SL & (label_SL != following_SL)


def generalised_advantages(reward_SL: Tensor, value_SL: Tensor, *, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimation along lines; nothing follows the last token of a line, so nothing is
    bootstrapped there.

        delta_k = r_k + gamma * V_{k+1} - V_k,   A_k = delta_k + gamma * lambda * A_{k+1}

    Schulman et al. 2016, arXiv 1506.02438, equations 11 to 16. Padding, which comes last, has reward and value 0.

    Args:
        reward_SL: what is paid after each token.
        value_SL: what was expected before it.
        gamma: discount per sampled token.
        gae_lambda: 1 trusts rewards alone, 0 the critic after one token.

    Returns:
        [S, L] advantages.
    """
    advantage_SL = torch.empty_like(reward_SL)
    following_S = next_value_S = reward_SL.new_zeros(len(reward_SL))
    for place in range(reward_SL.shape[1] - 1, -1, -1):
        delta_S = reward_SL[:, place] + gamma * next_value_S - value_SL[:, place]
        following_S = delta_S + gamma * gae_lambda * following_S
        advantage_SL[:, place] = following_S
        next_value_S = value_SL[:, place]
    return advantage_SL


def to_go(reward_SL: Tensor) -> Tensor:
    """[S, L] the sum of what is paid from each token to the end of its line."""
    return reward_SL.flip(1).cumsum(1).flip(1)


def whiten(advantage_BT: Tensor, mask_BT: Tensor, kind_BT: Tensor | None = None) -> Tensor:
    """Advantages with mean 0 and variance 1 over the sampled tokens, those of each kind by themselves.

    The variance has n - 1 in its denominator and gets 1e-8 added; a single token becomes 0.

    Args:
        advantage_BT: [B, T] advantages.
        mask_BT: [B, T] bool.
        kind_BT: [B, T] bool, two kinds; None for one.
    """
    out_BT = torch.zeros_like(advantage_BT)
    kinds = [mask_BT] if kind_BT is None else [mask_BT & kind_BT, mask_BT & ~kind_BT]
    for chosen_BT in kinds:
        value_N = advantage_BT[chosen_BT].double()
        if len(value_N):
            deviation_N = value_N - value_N.mean()
            variance = deviation_N.square().sum() / max(len(value_N) - 1, 1)
            scaled_N = deviation_N / (variance + _VARIANCE_EPS).sqrt()
            out_BT = out_BT.masked_scatter(chosen_BT, scaled_N.to(out_BT.dtype))
    return out_BT
