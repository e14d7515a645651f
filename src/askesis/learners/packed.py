"""Every distinct token once: branches packed into a forest, with tree attention.

Answers to one prompt share the prompt, turns share what came before, forks share their trunk; the model reads each such
token once, forward and backward. The result is that of :class:`askesis.learners.padded.PaddedScorer`.

Shape suffixes: B rows, T sampled tokens of a row, N packed tokens, U predicted tokens (distinct), D hidden size,
V vocabulary.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from askesis.errors import PolicyError
from askesis.learners.batch import Row, stack
from askesis.learners.critic import ValueHead
from askesis.learners.fused import FusedDecoder
from askesis.learners.scoring import Features, Scorer
from askesis.policy.forest import common_prefix, pack, sort_key
from askesis.policy.tree_attention import TreeMask, tree_attention
from askesis.policy.weights import Unsupported

__all__ = ["PackedScorer", "cut_evenly", "cut_rows"]

_Decode = Callable[[Tensor, Tensor, TreeMask, Tensor], Tensor]
"""Ids, positions, mask, packed indices wanted -> [U, D] hidden states."""
_PROBE_TOKENS = 8
_SLACK = 1.1


class PackedScorer(Scorer):
    """Packs branches into a forest.

    Args:
        model: that is scored with.
        temperature: of sampling.
        head: of a critic.
        writes_out: compute the families that are written out (:mod:`askesis.learners.fused`) so. They read weights as
            they lie, which a model in pieces does not have.

    Raises:
        PolicyError: the model's decoder and output layer, run apart, do not give the model's logits.
    """

    def __init__(
        self, model: Any, *, temperature: float, head: ValueHead | None = None, writes_out: bool = True
    ) -> None:
        super().__init__(temperature, head)
        self._decoder = model.get_decoder()
        self._decode: _Decode = self._decode_by_modules
        if writes_out:
            with suppress(Unsupported):
                self._decode = FusedDecoder(model)
        self._output = _output_layer(model)
        self._device = model.device
        self._check(model)

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return int(self._decoder.config.vocab_size)

    @property
    def is_thread_safe(self) -> bool:
        """While nothing of the model is switched."""
        return isinstance(self._decode, FusedDecoder)

    def micro_batches(self, rows: Sequence[Row], max_tokens: int, *, at_least: int = 1) -> list[list[int]]:
        """See :func:`cut_evenly`."""
        return cut_evenly(rows, max_tokens, at_least)

    def features(self, rows: Sequence[Row]) -> Features:
        """Hidden states where a sampled token is predicted."""
        forest = pack([row.tokens for row in rows])
        # Two rows may own the same place of the forest: two draws of one token after one prefix. It is scored once.
        owned = [place[row.at] for place, row in zip(forest.rows, rows, strict=True)]
        token_U, index = np.unique(np.concatenate(owned), return_inverse=True)
        sizes = np.cumsum([len(o) for o in owned])[:-1]
        hidden_UD = self._decode(
            self._tensor(forest.ids_N),
            self._tensor(forest.position_N),
            TreeMask.of(forest, self._device),
            self._tensor(forest.parent_N[token_U]),
        )
        return Features(
            features_UX=hidden_UD,
            target_U=self._tensor(forest.ids_N[token_U]),
            index_BT=stack(np.split(index, sizes), self._device),
            mask_BT=stack([np.ones(len(o), np.bool_) for o in owned], self._device),
            hidden_UD=None if self._head is None else hidden_UD,
        )

    def logits(self, features_UX: Tensor) -> Tensor:
        """The model's output layer."""
        return self._output(features_UX)

    def _decode_by_modules(self, ids_N: Tensor, position_N: Tensor, mask: TreeMask, wanted_U: Tensor) -> Tensor:
        """The model's own modules, with tree attention in place of theirs."""
        with tree_attention(self._decoder):
            hidden_1ND = self._decoder(
                input_ids=ids_N[None],
                position_ids=position_N[None],
                attention_mask=torch.empty(1, 1, 1, 1, device=self._device),
                use_cache=False,
                tree=mask,
            ).last_hidden_state
        hidden_UD: Tensor = hidden_1ND[0, wanted_U]
        return hidden_UD

    def _tensor(self, values: Any) -> Tensor:
        return torch.from_numpy(values).to(self._device)

    @torch.no_grad()
    def _check(self, model: Any) -> None:
        """Models differ in what they do to logits after the output layer; better to look than to guess."""
        ids = torch.arange(min(_PROBE_TOKENS, self.vocabulary), device=self._device)[None]
        expected = model(input_ids=ids, use_cache=False).logits
        got = self.logits(self._decoder(input_ids=ids, use_cache=False).last_hidden_state)
        if got.shape != expected.shape or not torch.allclose(got.float(), expected.float(), rtol=1e-2, atol=1e-2):
            raise PolicyError(
                "the model does more to its logits than the packed layout knows",
                where=type(model).__name__,
                next_step="set learner.packed=false: it trains each branch on its own, by the model's own forward pass",
            )


def cut_evenly(rows: Sequence[Row], max_tokens: int, at_least: int) -> list[list[int]]:
    """See :func:`cut_rows`; a multiple of ``at_least`` cuts where that is possible."""
    cuts = list(cut_rows(rows, max_tokens))
    if len(cuts) % at_least == 0:
        return cuts
    wanted = -(-len(cuts) // at_least) * at_least
    total = len(pack([row.tokens for row in rows]).ids_N)
    # A little more than the even share, since no cut comes out full.
    finer = list(cut_rows(rows, min(max_tokens, round(_SLACK * total / wanted))))
    return finer if len(finer) % at_least == 0 else cuts


def cut_rows(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Indices of rows with common prefixes together, at most ``max_tokens`` distinct tokens in each cut.

    The rows of a sample stay together unless they alone are too many; a row that alone is too long goes alone.
    """
    keys = [sort_key(row.tokens) for row in rows]
    samples: dict[int, list[int]] = {}
    for index in sorted(range(len(rows)), key=keys.__getitem__):
        samples.setdefault(rows[index].sample, []).append(index)
    cut = _Cut(rows, keys)
    for indices in samples.values():
        fits = _Cut(rows, keys).cost(indices) <= max_tokens
        for piece in [indices] if fits else [[index] for index in indices]:
            if cut.chosen and cut.size + cut.cost(piece) > max_tokens:
                yield cut.chosen
                cut = _Cut(rows, keys)
            cut.add(piece)
    if cut.chosen:
        yield cut.chosen


class _Cut:
    """Rows of one micro-batch, with the number of distinct tokens among them."""

    def __init__(self, rows: Sequence[Row], keys: Sequence[bytes]) -> None:
        self._rows, self._keys = rows, keys
        self._sorted: list[tuple[bytes, int]] = []
        self.chosen: list[int] = []
        self.size = 0

    def cost(self, indices: Sequence[int]) -> int:
        """Tokens that these rows would add."""
        before = list(self._sorted)
        total = sum(self._insert(i) for i in indices)
        self._sorted = before
        return total

    def add(self, indices: Sequence[int]) -> None:
        """Take these rows in."""
        self.size += sum(self._insert(i) for i in indices)
        self.chosen.extend(indices)

    def _insert(self, index: int) -> int:
        tokens = self._rows[index].tokens
        entry = (self._keys[index], index)
        place = bisect.bisect(self._sorted, entry)
        # In sorted order the longest common prefix with any other row is that with a neighbour.
        neighbours = self._sorted[max(place - 1, 0) : place + 1]
        shared = max((common_prefix(tokens, self._rows[i].tokens) for _, i in neighbours), default=0)
        self._sorted.insert(place, entry)
        return len(tokens) - shared


def _output_layer(model: Any) -> Callable[[Tensor], Tensor]:
    """Hidden states to logits, with what the known families do to logits."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)

    def logits(hidden: Tensor) -> Tensor:
        out: Tensor = layer(hidden)
        if scale != 1:
            out = out * scale
        return out if cap is None else torch.tanh(out / cap) * cap

    return logits
