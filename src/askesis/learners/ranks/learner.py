"""The gradient learner over several processes, which goes on when it loses some of them.

The driver keeps the weights, the optimiser and its own counts as they were after some update, and every batch since.
When a rank is lost, all are started anew from there, and the updates since are made again. They come to the same, bit
for bit, since nothing but weights, optimiser and batches goes into an update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from askesis.algorithms import Algorithm
from askesis.errors import LearnerError
from askesis.learners.batch import Row, Sample
from askesis.learners.compute import LearnerSettings
from askesis.learners.gradient import GradientLearner, UpdateReport
from askesis.learners.ranks.compute import RankedCompute
from askesis.learners.ranks.group import RankLost, Ranks
from askesis.policy.loading import Policy

__all__ = ["MAX_LOSSES", "RankedLearner"]

MAX_LOSSES = 3
"""In a row, over the same work; the next one ends the run."""

T = TypeVar("T")


class _Kept(NamedTuple):
    """Where the ranks are started from."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    values: dict[str, Any]


class RankedLearner(GradientLearner):
    """A :class:`GradientLearner` whose weights, gradients and optimiser lie sharded on ranks.

    Args:
        policy: what samples; it gets the trained weights after every update.
        algorithm: from rewards to a loss.
        settings: of the optimiser.
        start: starts ranks that have met.
        keep_every: updates between copies of weights and optimiser in the driver's memory, 12 bytes for each trained
            parameter and twice that while they are renewed. 0: none is kept, and the first loss ends the run.

    Raises:
        AlgorithmError: the algorithm lacks its critic, or ranks cannot build it.
        PolicyError: ranks cannot build the model.
        LearnerError: the ranks do not come up.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        settings: LearnerSettings,
        *,
        start: Callable[[], Ranks],
        keep_every: int = 1,
    ) -> None:
        super().__init__(policy, algorithm, settings, make_compute=partial(RankedCompute, start=start))
        self._keep_every = keep_every
        self._kept: _Kept | None = None
        self._since: list[Sequence[Sample]] = []
        self.losses: list[str] = []
        """Why ranks were lost, each time that it happened in this process; they were started anew."""
        self._surely(self._keep)

    @property
    def ranked(self) -> RankedCompute:
        """The ranks."""
        assert isinstance(self.compute, RankedCompute)
        return self.compute

    def update(self, samples: Sequence[Sample]) -> UpdateReport:
        """See :meth:`GradientLearner.update`. Raises LearnerError when ranks are lost again and again."""
        report = self._surely(partial(GradientLearner.update, self, samples))
        self._since.append(samples)
        if self._keep_every and len(self._since) >= self._keep_every:
            self._surely(self._keep)
        metrics = {**report.metrics, "lost_ranks": float(len(self.losses))}
        return UpdateReport(metrics=metrics, advantages=report.advantages)

    def gradient_norm(self, samples: Sequence[Sample], *, micro_batch_tokens: int) -> float:
        """See :meth:`GradientLearner.gradient_norm`."""
        work = partial(GradientLearner.gradient_norm, self, samples, micro_batch_tokens=micro_batch_tokens)
        return self._surely(work)

    def score(self, rows: Sequence[Row], *, packed: bool | None = None) -> Tensor:
        """See :meth:`GradientLearner.score`."""
        return self._surely(partial(GradientLearner.score, self, rows, packed=packed))

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See :meth:`GradientLearner.state_dict`: the same for any number of ranks."""
        if self._kept is not None and not self._since:
            return self._kept.optimizer, self._kept.values
        return self._surely(partial(GradientLearner.state_dict, self))

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """See :meth:`GradientLearner.load_state_dict`."""
        if self._keep_every:
            self._kept = _Kept(_copied(self.policy), dict(tensors), dict(values))
        self._since = []
        self._surely(partial(GradientLearner.load_state_dict, self, tensors, values))

    def _keep(self) -> None:
        """Take what the ranks can be started from."""
        if self._keep_every:
            optimizer, values = super().state_dict()
            self._kept, self._since = _Kept(_copied(self.policy), optimizer, values), []

    def _restore(self) -> None:
        """New ranks, where the lost ones were before the present work."""
        if self._kept is None:
            if self.version:
                raise LearnerError("nothing is kept from which ranks could be started", where=f"update {self.version}")
            self.ranked.raise_up()
            return
        with torch.no_grad():  # it may have got some of the weights of an update that was not finished
            for name, parameter in self.policy.trainable():
                parameter.copy_(self._kept.weights[name])
        super().load_state_dict(self._kept.optimizer, self._kept.values)
        for samples in self._since:
            super().update(samples)

    def _surely(self, work: Callable[[], T]) -> T:
        """``work``; again with new ranks when some are lost. Whatever else goes wrong, ranks are not left half-way."""
        losses = 0
        while True:
            try:
                if not self.ranked.is_up:
                    self._restore()
                return work()
            except RankLost as lost:
                self.close()
                losses += 1
                self.losses.append(lost.cause)
                if losses > MAX_LOSSES or not (self._keep_every or not self.version):
                    raise LearnerError(
                        "a rank of the learner was lost",
                        where=f"update {self.version}, {losses} time{'s' if losses > 1 else ''} in a row",
                        got=lost.cause,
                        next_step="start the same command again: the run resumes from its last checkpoint, with any "
                        "cluster.learner_ranks",
                    ) from None
            except BaseException:
                self.close()
                raise


def _copied(policy: Policy) -> dict[str, Tensor]:
    return {name: parameter.detach().cpu().clone() for name, parameter in policy.trainable()}
