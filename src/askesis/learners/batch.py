"""From judged traces to padded tensors, one row per branch.

Shape suffixes: B rows, T positions. Position t of a [B, T] tensor holds what concerns token t; the model predicts it
from t - 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from askesis.errors import TemplateError
from askesis.policy.template import check_mask
from askesis.trace import Trace

__all__ = ["Padded", "Row", "Sample", "micro_batches", "pad", "rows_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A trace with its reward: what a learner learns from."""

    trace_id: str
    trace: Trace
    reward: float
    group: int
    """Samples with the same number answered the same task."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One branch of a sample's token tree as a training sequence of n tokens."""

    tokens: NDArray[np.uint32]
    mask: NDArray[np.bool_]
    """Sampled tokens that this row owns; a token shared by several branches is owned by one of them."""
    behaviour: NDArray[np.float32]
    """Log-probabilities at sampling time; 0 outside the mask."""
    sample: int
    """Index of the sample that the row belongs to."""


def rows_of(samples: Sequence[Sample]) -> list[Row]:
    """The branches of all samples. Raises TemplateError when a sample's mask selects nothing or everything."""
    rows = []
    for index, sample in enumerate(samples):
        branches = sample.trace.branches()
        if not branches:
            raise TemplateError(
                "a trace without a single call cannot be trained on",
                where=sample.trace_id,
                next_step="sessions that failed before the first call must not be given to a learner",
            )
        for branch in branches:
            check_mask(branch.sampled, where=sample.trace_id)
            if branch.owned.any():
                rows.append(Row(tokens=branch.tokens, mask=branch.owned, behaviour=branch.logprobs, sample=index))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Padded:
    """Rows padded on the right to a common length; padding cannot be seen by a causal model."""

    ids_BT: torch.Tensor
    mask_BT: torch.Tensor
    behaviour_BT: torch.Tensor
    sample_B: torch.Tensor
    row_B: torch.Tensor
    """Index of each row in the list that was padded."""

    @property
    def first(self) -> int:
        """Earliest position of a token in the mask: nothing before it needs to be predicted."""
        return int(self.mask_BT.any(0).nonzero()[0, 0])


def pad(rows: Sequence[Row], indices: Sequence[int], device: torch.device) -> Padded:
    """The rows at ``indices`` as tensors."""
    length = max(len(rows[i].tokens) for i in indices)
    ids = np.zeros((len(indices), length), dtype=np.int64)
    mask = np.zeros((len(indices), length), dtype=np.bool_)
    behaviour = np.zeros((len(indices), length), dtype=np.float32)
    for place, index in enumerate(indices):
        size = len(rows[index].tokens)
        ids[place, :size] = rows[index].tokens
        mask[place, :size] = rows[index].mask
        behaviour[place, :size] = rows[index].behaviour
    return Padded(
        ids_BT=torch.from_numpy(ids).to(device),
        mask_BT=torch.from_numpy(mask).to(device),
        behaviour_BT=torch.from_numpy(behaviour).to(device),
        sample_B=torch.tensor([rows[i].sample for i in indices], device=device),
        row_B=torch.tensor(list(indices), device=device),
    )


def micro_batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of rows of similar length, at most ``max_tokens`` padded tokens each (a longer row goes alone)."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].tokens), i))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(rows[index].tokens) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
