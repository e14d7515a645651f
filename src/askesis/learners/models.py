"""The policy that is trained and the reference that it started from, as scorers of whole batches.

Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from askesis.errors import AlgorithmError
from askesis.learners.batch import Row
from askesis.learners.critic import ValueHead
from askesis.learners.packed import PackedScorer
from askesis.learners.padded import PaddedScorer
from askesis.learners.scoring import Scorer, Scores
from askesis.policy.loading import Policy

__all__ = ["BatchScorer", "Models", "distance_of"]


class BatchScorer(Protocol):
    """Scores batches of any size under the policy and its reference, without gradient."""

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""

    def scores(self, rows: Sequence[Row], *, packed: bool | None = None) -> Scores:
        """[B, T] log-probability, entropy and value of each row's sampled tokens under the policy; 0 on padding."""

    def reference_logp(self, rows: Sequence[Row]) -> Tensor:
        """[B, T] log-probability under the reference."""

    def distance(self, rows: Sequence[Row], between: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
        """[B, T] distance of the policy's distribution from the reference's.

        ``between(logits_NV, logits_ref_NV, temperature) -> [N]`` is called on chunks of tokens.
        """


class Models(BatchScorer):
    """Scores batches of any size under either model, micro-batch by micro-batch, without gradient.

    Args:
        policy: the model that is trained.
        packed: the layout; see :mod:`askesis.learners.packed`.
        temperature: of sampling.
        micro_batch_tokens: tokens of one forward pass.
        has_reference: keep the weights as they are now. With adapters, the model without them is the reference and
            nothing is copied.
        head: of a critic on the policy.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        packed: bool,
        temperature: float,
        micro_batch_tokens: int,
        has_reference: bool,
        head: ValueHead | None = None,
    ) -> None:
        self._policy = policy
        self._temperature = temperature
        self._micro_batch_tokens = micro_batch_tokens
        self._head = head
        self.scorer = self.make_scorer(packed=packed)
        self._has_reference = has_reference
        self._reference: Scorer | None = None
        if has_reference and not hasattr(policy.model, "disable_adapter"):
            kind = PackedScorer if packed else PaddedScorer
            frozen = copy.deepcopy(policy.model).requires_grad_(False)
            self._reference = kind(frozen, temperature=temperature)

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return self.scorer.vocabulary

    def make_scorer(self, *, packed: bool) -> Scorer:
        """A scorer of the policy in the given layout."""
        kind = PackedScorer if packed else PaddedScorer
        return kind(self._policy.model, temperature=self._temperature, head=self._head)

    @torch.no_grad()
    def scores(self, rows: Sequence[Row], *, packed: bool | None = None) -> Scores:
        """[B, T] log-probability, entropy and value of each row's sampled tokens under the policy; 0 on padding."""
        scorer = self.scorer if packed is None else self.make_scorer(packed=packed)
        parts = [(cut, scorer([rows[i] for i in cut])) for cut in self._cuts(scorer, rows)]
        columns = zip(*(part for _, part in parts), strict=True)
        cuts = [cut for cut, _ in parts]
        return Scores(*(self._column(rows, cuts, column) for column in columns))

    @torch.no_grad()
    def reference_logp(self, rows: Sequence[Row]) -> Tensor:
        """[B, T] log-probability under the reference."""
        with self._as_reference() as scorer:
            parts = [(cut, scorer([rows[i] for i in cut]).logp_BT) for cut in self._cuts(scorer, rows)]
        return self._whole(rows, parts)

    @torch.no_grad()
    def distance(self, rows: Sequence[Row], between: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
        """See :meth:`BatchScorer.distance`."""
        parts = []
        for cut in self._cuts(self.scorer, rows):
            chosen = [rows[i] for i in cut]
            parts.append((cut, distance_of(self.scorer, self._as_reference, chosen, between, self._temperature)))
        return self._whole(rows, parts)

    def _cuts(self, scorer: Scorer, rows: Sequence[Row]) -> Sequence[list[int]]:
        return scorer.micro_batches(rows, self._micro_batch_tokens)

    def _column(self, rows: Sequence[Row], cuts: Sequence[list[int]], column: Sequence[Tensor | None]) -> Any:
        known = [(cut, part) for cut, part in zip(cuts, column, strict=True) if part is not None]
        return self._whole(rows, known) if known else None

    def _whole(self, rows: Sequence[Row], parts: Sequence[tuple[list[int], Tensor]]) -> Tensor:
        whole_BT = torch.zeros(len(rows), max(len(row.at) for row in rows), device=self._policy.device)
        for cut, part_BT in parts:
            whole_BT[cut, : part_BT.shape[1]] = part_BT
        return whole_BT

    @contextmanager
    def _as_reference(self) -> Iterator[Scorer]:
        if not self._has_reference:
            raise AlgorithmError("the learner was built without a reference model")
        if self._reference is not None:
            yield self._reference
            return
        model: Any = self._policy.model
        with model.disable_adapter():
            yield self.scorer


def distance_of(
    scorer: Scorer,
    as_reference: Callable[[], AbstractContextManager[Scorer]],
    rows: Sequence[Row],
    between: Callable[[Tensor, Tensor, float], Tensor],
    temperature: float,
) -> Tensor:
    """[B, T] distance, for the rows of one micro-batch; see :meth:`BatchScorer.distance`."""
    ours = scorer.features(rows)
    with as_reference() as reference:
        theirs = reference.features(rows)
        distance_U = torch.cat(
            [
                between(scorer.logits(x_UX), reference.logits(y_UX), temperature)
                for x_UX, y_UX in zip(scorer.chunks(ours), reference.chunks(theirs), strict=True)
            ]
        )
    return torch.where(ours.mask_BT, distance_U[ours.index_BT], 0.0)
