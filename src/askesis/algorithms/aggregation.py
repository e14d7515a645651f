"""From a loss per token to one number, independent of how the batch is cut.

Aggregation is a weight per token, computed once over the whole batch:

    loss = sum over b, t of weight_BT * per_token_BT

so a micro-batch adds its own tokens, and any cut of the batch gives the same loss and the same gradient. A *sequence*
may span several rows (contexts or tree branches of one trajectory); which rows form it is said by ``sequence_B``. A
packed layout of N tokens is the case B = N, T = 1, in which ``row_B`` says which tokens form a row.

    token_mean               mask / number of sampled tokens
    row_mean                 mask / (sampled tokens of the row * number of rows)
    seq_mean_token_mean      mask / (sampled tokens of the sequence * number of sequences)
    seq_mean_token_sum       mask / number of sequences
    seq_mean_token_sum_norm  mask / (norm_length * number of sequences)

Sequences and rows without a sampled token are not counted, so padding rows change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.stages import Param
from askesis.errors import AlgorithmError

__all__ = ["NORM_LENGTH", "Aggregation", "Denominators", "denominators", "token_weights"]


class Aggregation(StrEnum):
    """How losses per token become one number."""

    TOKEN_MEAN = "token_mean"
    """Every token weighs the same; long sequences weigh more (DAPO)."""
    ROW_MEAN = "row_mean"
    """Every context of a trajectory weighs the same; trajectories of many turns weigh more."""
    SEQ_MEAN_TOKEN_MEAN = "seq_mean_token_mean"
    """Every sequence weighs the same (GRPO)."""
    SEQ_MEAN_TOKEN_SUM = "seq_mean_token_sum"
    """The sequence is the action (REINFORCE, RLOO)."""
    SEQ_MEAN_TOKEN_SUM_NORM = "seq_mean_token_sum_norm"
    """The sum, divided by a constant length (Dr.GRPO)."""


NORM_LENGTH = Param(
    name="norm_length",
    kind=int,
    default=3000,
    minimum=1,
    why="the constant length that a token sum is divided by; set it to the generation limit in tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denominators:
    """Counts of the whole batch. Those of ranks that hold different sequences may be added."""

    num_tokens: int
    num_sequences: int
    num_rows: int

    def __add__(self, other: Denominators) -> Denominators:
        return Denominators(
            num_tokens=self.num_tokens + other.num_tokens,
            num_sequences=self.num_sequences + other.num_sequences,
            num_rows=self.num_rows + other.num_rows,
        )


def denominators(mask_BT: Tensor, sequence_B: Tensor, *, row_B: Tensor | None = None) -> Denominators:
    """Counts over a batch: sampled tokens, and sequences and rows with at least one of them.

    ``row_B``: [B] int64 ids of rows; by default each row of the table is one.
    """
    tokens_S, _ = _tokens_of_sequences(mask_BT, sequence_B)
    tokens_R, _ = _tokens_of_sequences(mask_BT, _rows(mask_BT, row_B))
    return Denominators(
        num_tokens=int(tokens_S.sum()),
        num_sequences=int((tokens_S > 0).sum()),
        num_rows=int((tokens_R > 0).sum()),
    )


def token_weights(
    mask_BT: Tensor,
    sequence_B: Tensor,
    kind: Aggregation,
    *,
    denominators: Denominators,
    norm_length: int | None = None,
    row_B: Tensor | None = None,
) -> Tensor:
    """The weight of each token in the loss of the whole batch.

    Args:
        mask_BT: [B, T] bool. It must hold whole sequences: all rows of each.
        sequence_B: [B] int64 ids.
        kind: how to aggregate.
        denominators: counts of the whole batch, over all ranks.
        norm_length: tokens, for ``seq_mean_token_sum_norm`` only.
        row_B: [B] int64 ids, for ``row_mean`` only; by default each row of the table is one.

    Returns:
        [B, T] float32, 0 where the mask is False. All zero for a batch without a sampled token.

    Raises:
        AlgorithmError: the shapes do not fit, or ``norm_length`` is missing.
    """
    tokens_S, row_to_sequence_B = _tokens_of_sequences(mask_BT, sequence_B)
    weight_BT = mask_BT.to(torch.float32)
    num_sequences = max(denominators.num_sequences, 1)
    match kind:
        case Aggregation.TOKEN_MEAN:
            return weight_BT / max(denominators.num_tokens, 1)
        case Aggregation.ROW_MEAN:
            tokens_R, to_row_B = _tokens_of_sequences(mask_BT, _rows(mask_BT, row_B))
            return weight_BT / (tokens_R.clamp(min=1)[to_row_B].unsqueeze(1) * max(denominators.num_rows, 1))
        case Aggregation.SEQ_MEAN_TOKEN_MEAN:
            tokens_B1 = tokens_S.clamp(min=1)[row_to_sequence_B].unsqueeze(1)
            return weight_BT / (tokens_B1 * num_sequences)
        case Aggregation.SEQ_MEAN_TOKEN_SUM:
            return weight_BT / num_sequences
        case Aggregation.SEQ_MEAN_TOKEN_SUM_NORM:
            if norm_length is None:
                raise AlgorithmError(
                    "seq_mean_token_sum_norm needs a norm_length", next_step="give the generation limit in tokens"
                )
            return weight_BT / (norm_length * num_sequences)


def _rows(mask_BT: Tensor, row_B: Tensor | None) -> Tensor:
    return torch.arange(len(mask_BT), device=mask_BT.device) if row_B is None else row_B


def _tokens_of_sequences(mask_BT: Tensor, sequence_B: Tensor) -> tuple[Tensor, Tensor]:
    """Sampled tokens of each sequence [S], and the index in S of each row [B]."""
    if mask_BT.dtype != torch.bool or mask_BT.ndim != 2 or sequence_B.shape != mask_BT.shape[:1]:
        raise AlgorithmError(
            "mask and sequence ids do not fit together",
            got=f"mask {mask_BT.dtype} {list(mask_BT.shape)}, sequence ids {list(sequence_B.shape)}",
            expected="a bool mask [B, T] and one id per row [B]",
        )
    ids_S, row_to_sequence_B = torch.unique(sequence_B, return_inverse=True)
    tokens_S = torch.zeros(len(ids_S), dtype=torch.int64, device=mask_BT.device)
    return tokens_S.index_add(0, row_to_sequence_B, mask_BT.sum(dim=1)), row_to_sequence_B
