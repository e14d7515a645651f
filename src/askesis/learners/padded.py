"""One row per branch, padded on the right: the oracle that the packed layout is tested against.

Uses nothing but the model's own forward pass. Shape suffixes: B rows, L positions, T sampled tokens of a row, U sampled
tokens in all, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from askesis.learners.batch import Row, stack
from askesis.learners.critic import ValueHead
from askesis.learners.scoring import Features, Scorer

__all__ = ["PaddedScorer", "cut_by_length"]


class PaddedScorer(Scorer):
    """Each branch is a sequence of its own. Padding comes last, where a causal model does not see it."""

    def __init__(self, model: Any, *, temperature: float, head: ValueHead | None = None) -> None:
        super().__init__(temperature, head)
        self._model = model

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return int(self._model.config.get_text_config().vocab_size)

    def micro_batches(self, rows: Sequence[Row], max_tokens: int, *, at_least: int = 1) -> list[list[int]]:
        """See :func:`cut_by_length`; ``at_least`` is not looked at."""
        return cut_by_length(rows, max_tokens)

    def features(self, rows: Sequence[Row]) -> Features:
        """The logits themselves."""
        device = self._model.device
        ids_BL = stack([row.tokens.astype(np.int64) for row in rows], device)
        first = min(int(row.at[0]) for row in rows)
        # The token at position t is predicted at t - 1; nothing before the first sampled token is.
        keep = torch.arange(first - 1, ids_BL.shape[1] - 1, device=device)
        has_head = self._head is not None
        out = self._model(input_ids=ids_BL, use_cache=False, logits_to_keep=keep, output_hidden_states=has_head)
        at_BT = stack([row.at for row in rows], device)
        mask_BT = stack([np.ones(len(row.at), np.bool_) for row in rows], device)
        row_U, place_U = mask_BT.nonzero(as_tuple=True)
        at_U = at_BT[row_U, place_U]
        index_BT = (mask_BT.flatten().cumsum(0) - 1).view_as(mask_BT) * mask_BT
        hidden_UD = out.hidden_states[-1][row_U, at_U - 1] if has_head else None
        return Features(out.logits[row_U, at_U - first], ids_BL[row_U, at_U], index_BT, mask_BT, hidden_UD)

    def logits(self, features_UX: Tensor) -> Tensor:
        """They are already there."""
        return features_UX


def cut_by_length(rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
    """Rows of similar length, at most ``max_tokens`` padded tokens in each cut."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].tokens), i))
    cuts: list[list[int]] = []
    for index in order:
        if not cuts or (len(cuts[-1]) + 1) * len(rows[index].tokens) > max_tokens:
            cuts.append([])
        cuts[-1].append(index)
    return cuts
