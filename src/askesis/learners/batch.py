"""From judged traces to training sequences, and from those to tables of sampled tokens.

Shape suffixes: B rows, T sampled tokens of a row (prompts and observations take no place), M sampled tokens of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from askesis.errors import TemplateError
from askesis.policy.template import check_mask
from askesis.trace import Branch, Call, StateScore, Trace

__all__ = ["Row", "Sample", "TokenTable", "rows_of", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What a learner learns from: the acts of a trace with their reward, or an answer from a state of it."""

    trace_id: str
    trace: Trace
    reward: float
    group: int
    """Samples with the same number answered the same task."""
    step_rewards: tuple[float, ...] | None = None
    """What the environment paid for each call of the policy, in order; None when it pays only at the end."""
    states: tuple[StateScore, ...] = ()
    """What the states of the session were worth, in order from state 0; empty when they were not scored."""
    answer: int | None = None
    """Key of a fork of the trace: the sample is this one call, its reward is the answer's. None: all acts."""
    weight: float = 1.0
    """Of its tokens in the loss."""

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls whose tokens are trained on."""
        if self.answer is None:
            return self.trace.acts
        return tuple(call for call in self.trace.calls if call.key == self.answer)

    @property
    def num_sampled(self) -> int:
        """Tokens that are trained on."""
        return sum(len(call.sampled) for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One branch of a sample's token tree as a training sequence of n tokens."""

    tokens: NDArray[np.uint32]
    """[n]."""
    at: NDArray[np.int64]
    """[M] positions of the sampled tokens that this row owns, ascending, none of them 0. A token shared by several
    branches is owned by one of them.
    """
    behaviour: NDArray[np.float32]
    """[M] log-probabilities at sampling time."""
    turn: NDArray[np.int32]
    """[M] number of the model call that drew the token, within its trace."""
    version: NDArray[np.int32]
    """[M] of the weights that drew the token."""
    sample: int
    """Index of the sample that the row belongs to."""


def rows_of(samples: Sequence[Sample]) -> list[Row]:
    """The branches of all samples. Raises TemplateError when a sample's mask selects nothing or everything."""
    rows = []
    known: dict[int, list[Branch]] = {}  # samples of one trace, which come from its forks, share its branches
    for index, sample in enumerate(samples):
        branches = known.get(id(sample.trace)) or sample.trace.branches()
        known[id(sample.trace)] = branches
        keys = [call.key for call in sample.calls]
        if not keys:
            raise TemplateError(
                "a trace without a single call cannot be trained on",
                where=sample.trace_id,
                next_step="sessions that failed before the first call must not be given to a learner",
            )
        for branch in branches:
            check_mask(branch.sampled, where=sample.trace_id)
            at = (branch.owned & np.isin(branch.call, keys)).nonzero()[0]
            if len(at):
                rows.append(
                    Row(
                        tokens=branch.tokens,
                        at=at,
                        behaviour=branch.logprobs[at],
                        turn=branch.call[at],
                        version=branch.policy_version[at],
                        sample=index,
                    )
                )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """The sampled tokens of rows side by side, padded on the right."""

    mask_BT: torch.Tensor
    """bool, False on padding."""
    sequence_B: torch.Tensor
    """int64 index of each row's sample."""
    behaviour_BT: torch.Tensor
    """float32."""
    turn_BT: torch.Tensor
    """int64."""
    version_BT: torch.Tensor
    """int32, of the weights that drew the token."""

    @classmethod
    def of(cls, rows: Sequence[Row], device: torch.device) -> TokenTable:
        """The table of ``rows``, at least one."""
        return cls(
            mask_BT=stack([np.ones(len(row.at), np.bool_) for row in rows], device),
            sequence_B=torch.tensor([row.sample for row in rows], device=device),
            behaviour_BT=stack([row.behaviour for row in rows], device),
            turn_BT=stack([row.turn.astype(np.int64) for row in rows], device),
            version_BT=stack([row.version for row in rows], device),
        )


def stack(rows: Sequence[NDArray[np.generic]], device: torch.device) -> torch.Tensor:
    """[B, T]: arrays of different lengths side by side, zeros behind."""
    table = np.zeros((len(rows), max(len(row) for row in rows)), rows[0].dtype)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return torch.from_numpy(table).to(device)
