"""Log-probability and entropy of sampled tokens under a model.

A scorer decides how sequences are laid out for the model: :class:`askesis.learners.padded.PaddedScorer` one row per
branch, :class:`askesis.learners.packed.PackedScorer` every distinct token once. Both unembed only where a sampled token
is predicted, and never hold logits of more than a chunk of these places.

Shape suffixes: B rows, T sampled tokens of a row, U predicted tokens (distinct), X features, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from askesis.learners.batch import Row
from askesis.learners.critic import ValueHead

__all__ = ["Features", "Scorer", "Scores"]

_CHUNK_ELEMENTS = 1 << 24
"""Logits that are held at once: 64 MiB in float32."""


class Scores(NamedTuple):
    """[B, T] each; 0 on padding."""

    logp_BT: Tensor
    """Log-probability of each sampled token, at the sampling temperature; carries gradient when it is enabled."""
    entropy_BT: Tensor
    """Entropy in nats of the distribution that it was drawn from; without gradient."""
    value_BT: Tensor | None = None
    """What the critic expects before each sampled token; carries gradient when it is enabled. None without a critic."""


class Features(NamedTuple):
    """What the model says about the predicted tokens, before the vocabulary."""

    features_UX: Tensor
    target_U: Tensor
    """Ids of the predicted tokens."""
    index_BT: Tensor
    """Which of the U belongs to each sampled token; 0 on padding."""
    mask_BT: Tensor
    hidden_UD: Tensor | None = None
    """The last hidden states, for a critic; None when there is none."""


class Scorer(ABC):
    """Scores rows under one model at one sampling temperature, with the values of a critic if it has one."""

    def __init__(self, temperature: float, head: ValueHead | None = None) -> None:
        self._temperature = temperature
        self._head = head

    @abstractmethod
    def micro_batches(self, rows: Sequence[Row], max_tokens: int, *, at_least: int = 1) -> Sequence[list[int]]:
        """Cut ``rows`` into lists of indices that cost at most ``max_tokens`` each; a longer row goes alone.

        ``at_least`` asks for that many cuts of about equal cost, or a multiple of it, where there are rows enough.
        """

    @property
    def is_thread_safe(self) -> bool:
        """Several threads may score at once."""
        return False

    @abstractmethod
    def features(self, rows: Sequence[Row]) -> Features:
        """Run the model over ``rows``."""

    @abstractmethod
    def logits(self, features_UX: Tensor) -> Tensor:
        """[U, V] of some of the features."""

    def __call__(self, rows: Sequence[Row]) -> Scores:
        """Scores of the sampled tokens of ``rows``, which fit into one micro-batch."""
        features = self.features(rows)
        chunks = self.chunks(features)
        targets = features.target_U.split([len(x) for x in chunks])
        parts = [self._score_chunk(x, y, len(chunks) > 1) for x, y in zip(chunks, targets, strict=True)]
        logp_U, entropy_U = (torch.cat(column) for column in zip(*parts, strict=True))
        values = [logp_U, entropy_U]
        if self._head is not None and features.hidden_UD is not None:
            values.append(self._head(features.hidden_UD))
        return Scores(*(torch.where(features.mask_BT, v[features.index_BT], 0.0) for v in values))

    def chunks(self, features: Features) -> Sequence[Tensor]:
        """The features in pieces of which the logits fit into memory."""
        pieces: tuple[Tensor, ...] = features.features_UX.split(max(_CHUNK_ELEMENTS // self.vocabulary, 1))
        return pieces

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Width of the logits."""

    def _score_chunk(self, features_UX: Tensor, target_U: Tensor, is_part: bool) -> tuple[Tensor, Tensor]:
        if is_part and torch.is_grad_enabled():  # the logits are made again in the backward pass, chunk by chunk
            scored: tuple[Tensor, Tensor] = checkpoint(
                self._score_chunk, features_UX, target_U, False, use_reentrant=False
            )
            return scored
        logits_UV = self.logits(features_UX).float()
        if self._temperature != 1.0:
            logits_UV = logits_UV / self._temperature
        scores: tuple[Tensor, Tensor] = _TokenScores.apply(logits_UV, target_U)  # type: ignore[no-untyped-call]
        return scores


class _TokenScores(torch.autograd.Function):
    """Log-probability of the targets and entropy, from logits [U, V]. Keeps one [U, V] tensor for the way back."""

    @staticmethod
    def forward(ctx: Any, logits_UV: Tensor, target_U: Tensor) -> tuple[Tensor, Tensor]:
        logp_UV = logits_UV.log_softmax(-1)
        p_UV = logp_UV.exp()
        logp_U = logp_UV.gather(-1, target_U[:, None])[:, 0]
        # 0 * -inf would be NaN where a logit is -inf.
        entropy_U = -(p_UV * logp_UV.clamp_min_(torch.finfo(logp_UV.dtype).min)).sum(-1)
        ctx.save_for_backward(p_UV, target_U)
        ctx.mark_non_differentiable(entropy_U)
        return logp_U, entropy_U

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        p_UV, target_U = ctx.saved_tensors
        grad_U1 = grads[0][:, None]
        grad_UV = p_UV * -grad_U1
        return grad_UV.scatter_add_(1, target_U[:, None], grad_U1), None
