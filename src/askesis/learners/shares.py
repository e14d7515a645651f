"""What one micro-batch adds to the loss and to its gradient.

A piece holds all that its share is computed from, but the model: it can be computed in this process or in another.
Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, where

from askesis.algorithms import Algorithm, LossInputs, LossResult, Sums
from askesis.learners.batch import Row
from askesis.learners.critic import CriticSettings, value_loss
from askesis.learners.preparation import Batch
from askesis.learners.scoring import Scores

__all__ = ["Piece", "Share", "TokenWeights", "pieces_of", "policy_loss", "share_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """One micro-batch; tensors are [B, T] but for ``sequence_B``."""

    cut: list[int]
    """Indices of its rows in the batch."""
    rows: tuple[Row, ...]
    behaviour_BT: Tensor
    advantage_BT: Tensor
    mask_BT: Tensor
    weight_BT: Tensor
    """Of each token in the policy's loss: its part of one denominator for the whole update."""
    sequence_B: Tensor
    passed_BT: Tensor | None = None
    """The loss's gradient in the log-probabilities, where it is known already; the piece passes it on to the weights
    and computes no loss.
    """
    return_BT: Tensor | None = None
    """What a critic is to predict; None without one, and so are the next two."""
    value_old_BT: Tensor | None = None
    value_weight_BT: Tensor | None = None


class Share(NamedTuple):
    """What one micro-batch adds."""

    to_differentiate: Tensor
    """[] whose gradients, over all micro-batches, add up to that of the loss."""
    loss: float
    diagnostics: Mapping[str, Sums]
    cut: list[int]
    """Rows of the micro-batch."""
    logp_BT: Tensor
    """Their scores, without gradient."""


class TokenWeights(NamedTuple):
    """[B, T] each, of the whole batch; 0 on rows that are not in this update."""

    policy_BT: Tensor
    critic_BT: Tensor


def pieces_of(
    batch: Batch, cuts: Sequence[list[int]], weights: TokenWeights, passed_BT: Tensor | None = None
) -> list[Piece]:
    """One piece for each cut; ``passed_BT`` is of the whole batch."""
    table, value_BT, return_BT = batch.table, batch.value_BT, batch.credit.return_BT
    has_critic = value_BT is not None and return_BT is not None
    pieces = []
    for cut in cuts:
        rows = tuple(batch.rows[i] for i in cut)
        length = max(len(row.at) for row in rows)

        def part(table_BT: Tensor | None, cut: list[int] = cut, length: int = length) -> Tensor | None:
            return None if table_BT is None else table_BT[cut, :length]

        pieces.append(
            Piece(
                cut=cut,
                rows=rows,
                behaviour_BT=table.behaviour_BT[cut, :length],
                advantage_BT=batch.credit.advantage_BT[cut, :length],
                mask_BT=table.mask_BT[cut, :length],
                weight_BT=weights.policy_BT[cut, :length],
                sequence_B=table.sequence_B[cut],
                passed_BT=part(passed_BT),
                return_BT=part(return_BT) if has_critic else None,
                value_old_BT=part(value_BT) if has_critic else None,
                value_weight_BT=part(weights.critic_BT) if has_critic else None,
            )
        )
    return pieces


def share_of(
    piece: Piece, scores: Scores, algorithm: Algorithm, logp_ref_BT: Tensor | None, critic: CriticSettings | None
) -> Share:
    """The share of ``piece``, whose ``scores`` carry gradient; ``logp_ref_BT`` where the objective reads it."""
    value = _critic_loss(piece, scores, critic)
    if piece.passed_BT is None:
        policy = policy_loss(piece, scores, algorithm, logp_ref_BT)
        loss, to_differentiate = float(policy.loss.detach()), policy.loss
        diagnostics = {**policy.diagnostics, **value.diagnostics}
    else:
        loss, to_differentiate = 0.0, (scores.logp_BT * piece.passed_BT).sum()
        diagnostics = dict(value.diagnostics)
    return Share(
        to_differentiate=to_differentiate + value.loss,
        loss=loss,
        diagnostics=diagnostics,
        cut=piece.cut,
        logp_BT=scores.logp_BT.detach(),
    )


def policy_loss(piece: Piece, scores: Scores, algorithm: Algorithm, logp_ref_BT: Tensor | None) -> LossResult:
    """The policy's loss, with what the objective says about it and the entropy."""
    result = algorithm.loss(
        LossInputs(
            logp_new_BT=scores.logp_BT,
            logp_behaviour_BT=piece.behaviour_BT,
            advantage_BT=piece.advantage_BT,
            mask_BT=piece.mask_BT,
            weight_BT=piece.weight_BT,
            logp_ref_BT=logp_ref_BT,
            sequence_B=piece.sequence_B,
        )
    )
    entropy = Sums(total=scores.entropy_BT.sum(), count=piece.mask_BT.sum())
    return LossResult(loss=result.loss, diagnostics={**result.diagnostics, "entropy": entropy})


def _critic_loss(piece: Piece, scores: Scores, settings: CriticSettings | None) -> LossResult:
    """The critic's share of the loss; 0 without a critic."""
    new_BT, old_BT, return_BT, weight_BT = scores.value_BT, piece.value_old_BT, piece.return_BT, piece.value_weight_BT
    if settings is None or new_BT is None or old_BT is None or return_BT is None or weight_BT is None:
        return LossResult(loss=scores.logp_BT.new_zeros(()), diagnostics={})
    loss_BT = value_loss(new_BT, old_BT, return_BT, clip=settings.clip)
    loss_BT = where(piece.mask_BT, loss_BT, 0.0)
    count = piece.mask_BT.sum()
    return LossResult(
        loss=(loss_BT * weight_BT).sum(),
        diagnostics={
            "value_loss": Sums(total=loss_BT.detach().sum(), count=count),
            "value_mean": Sums(total=new_BT.detach().sum(), count=count),
        },
    )
