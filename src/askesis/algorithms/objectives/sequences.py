"""Quantities of whole sequences, for objectives that look at more than one token at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from askesis.algorithms.estimators.groups import sum_by
from askesis.algorithms.types import Sums

__all__ = ["Sequences", "sequences"]


class Sequences(NamedTuple):
    """The sequences that rows form. A sequence may have several rows, in any place."""

    row_to_sequence_B: Tensor
    """[B] int64 index into S."""
    num_tokens_S: Tensor
    """[S] int64 sampled tokens; 0 for a sequence of padding rows."""

    def total(self, value_BT: Tensor) -> Tensor:
        """[S] the sum over each sequence of values that are 0 where nothing was sampled."""
        return sum_by(value_BT.sum(dim=1), self.row_to_sequence_B, len(self.num_tokens_S))

    def mean(self, value_BT: Tensor) -> Tensor:
        """[S] the mean over the sampled tokens of each sequence; 0 where there are none."""
        return self.total(value_BT) / self.num_tokens_S.clamp(min=1)

    def to_rows(self, value_S: Tensor) -> Tensor:
        """[B, 1] each row's value."""
        return value_S[self.row_to_sequence_B].unsqueeze(1)

    def sums(self, value_S: Tensor, where_S: Tensor | None = None) -> Sums:
        """A diagnostic over sequences (those of ``where_S``, [S] bool) that have a sampled token."""
        counted_S = self.num_tokens_S > 0 if where_S is None else where_S & (self.num_tokens_S > 0)
        return Sums(total=torch.where(counted_S, value_S.to(torch.float32), 0.0).sum(), count=counted_S.sum())


def sequences(mask_BT: Tensor, sequence_B: Tensor) -> Sequences:
    """The sequences of a micro-batch, which must hold all rows of each."""
    ids_S, row_to_sequence_B = torch.unique(sequence_B, return_inverse=True)
    return Sequences(row_to_sequence_B, sum_by(mask_BT.sum(dim=1), row_to_sequence_B, len(ids_S)))
