"""The gradient learner: AdamW on a loss that does not depend on how the batch is cut.

Branches are scored packed into a forest, each distinct token once, or padded, one row each: the layout changes the
speed and nothing else. Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from askesis.algorithms import Algorithm, LossResult, Sums, add_diagnostics, off_policy
from askesis.errors import AlgorithmError
from askesis.learners.batch import Row, Sample
from askesis.learners.compute import Compute, LearnerSettings, LocalCompute
from askesis.learners.critic import Critic, explained_variance
from askesis.learners.preparation import Batch, prepare
from askesis.learners.scoring import Scores
from askesis.learners.shares import Piece, TokenWeights, pieces_of, policy_loss
from askesis.policy.loading import Policy

__all__ = ["GradientLearner", "LearnerSettings", "UpdateReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """What one call of :meth:`GradientLearner.update` did. ``metrics`` maps a name to a number; None means not
    computed.
    """

    metrics: Mapping[str, float | None]
    advantages: tuple[float, ...]
    """One per sample, in order."""


MakeCompute = Callable[[Policy, Algorithm, LearnerSettings], Compute]


class GradientLearner:
    """Changes the policy's weights in place; ``version`` counts the calls of :meth:`update`.

    Args:
        policy: whose weights are trained.
        algorithm: from rewards to a loss.
        settings: of the optimiser.
        make_compute: who holds the gradient and the optimiser; this process unless given.

    Raises:
        AlgorithmError: the algorithm needs a critic, and there is none.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        settings: LearnerSettings,
        *,
        make_compute: MakeCompute = LocalCompute,
    ) -> None:
        _require_critic(algorithm, settings)
        self.policy = policy
        self.algorithm = algorithm
        self.settings = settings
        self.version = 0
        self._num_updates = 0
        self._moving_reward: float | None = None
        self.compute = make_compute(policy, algorithm, settings)

    @property
    def critic(self) -> Critic | None:
        """What predicts rewards, where there is one."""
        return self.compute.critic

    def close(self) -> None:
        """End what was started for learning; nothing in one process."""
        self.compute.close()

    def update(self, samples: Sequence[Sample]) -> UpdateReport:
        """Learn from judged traces; whole groups only.

        Raises:
            AlgorithmError: no sample, or a gradient that is not finite (the weights are left as they were).
            TemplateError: a trace whose mask selects nothing or everything.
        """
        batch = self._prepare(samples)
        self._moving_reward = batch.advantages.moving_reward
        # Only before the first optimiser step can the learner's weights be those that sampled.
        is_comparable = not self.settings.truncated
        steps = []
        for epoch in range(self.settings.epochs):
            for number, part in enumerate(_cut_by_group(samples, self.settings.updates_per_step)):
                chosen = [i for i, row in enumerate(batch.rows) if row.sample in part]
                steps.append(self._step(batch, chosen, watches_drift=is_comparable and epoch == number == 0))
        self.compute.publish()
        self.version += 1
        metrics = {name: _mean([step.get(name) for step in steps]) for name in {n: None for s in steps for n in s}}
        report = batch.advantages
        return UpdateReport(
            metrics={
                **metrics,
                **batch.credit.diagnostics,
                **_critic_metrics(batch),
                "num_groups": report.num_groups,
                "num_zero_variance_groups": report.num_zero_variance_groups,
                "num_singleton_groups": report.num_singleton_groups,
            },
            advantages=tuple(report.advantage_B.tolist()),
        )

    def gradient_norm(self, samples: Sequence[Sample], *, micro_batch_tokens: int) -> float:
        """Norm of the gradient on ``samples`` at the present weights, changing nothing. For self-checks.

        The gradient says more than the loss, which is zero on fresh samples whose advantages add up to zero.
        """
        batch = self._prepare(samples)
        pieces, _ = self._pieces(batch, range(len(batch.rows)), micro_batch_tokens)
        self.compute.accumulate(pieces)
        return self.compute.norm()

    def score(self, rows: Sequence[Row], *, packed: bool | None = None) -> Tensor:
        """[B, T] log-probability of each row's sampled tokens under the present weights; 0 on padding. ``packed``
        chooses another layout than the learner's.
        """
        return self.compute.scores(rows, packed=packed).logp_BT

    def _prepare(self, samples: Sequence[Sample]) -> Batch:
        return prepare(
            samples,
            self.algorithm,
            self.compute,
            self.policy.device,
            progress=min(self.version / self.settings.total_steps, 1.0),
            moving_reward=self._moving_reward,
            rescore=self.settings.truncated,
        )

    def _step(self, batch: Batch, chosen: Sequence[int], *, watches_drift: bool) -> dict[str, float | None]:
        """One optimiser step on the chosen rows."""
        pieces, whole = self._pieces(batch, chosen, self.settings.micro_batch_tokens)
        shares = self.compute.accumulate(pieces)
        logp_BT = torch.zeros_like(batch.table.behaviour_BT)
        for share in shares:
            logp_BT[share.cut, : share.logp_BT.shape[1]] = share.logp_BT
        lr = self.learning_rate(self._num_updates)
        norm = self.compute.step(lr)
        if not math.isfinite(norm):
            raise AlgorithmError(
                "the gradient is not finite; this optimiser step was not made",
                where=f"update {self._num_updates}",
                got=norm,
                next_step="start a new run with a lower training.lr; this one can be looked at with `askesis report`",
            )
        self._num_updates += 1
        table = batch.table
        mask_BT, sequence_B = table.mask_BT[chosen], table.sequence_B[chosen]
        log_ratio_BT = logp_BT[chosen] - table.behaviour_BT[chosen]
        gap_N = log_ratio_BT[mask_BT & (table.version_BT[chosen] == self.version)].abs()
        watches_drift = watches_drift and len(gap_N) > 0
        return {
            **_diagnostics(add_diagnostics([whole.diagnostics, *(share.diagnostics for share in shares)])),
            **off_policy(log_ratio_BT, mask_BT, sequence_B),
            "loss": float(whole.loss) + sum(share.loss for share in shares),
            "grad_norm": norm,
            "lr": lr,
            "num_trained_tokens": float(mask_BT.sum()),
            "drift": float(gap_N.mean()) if watches_drift else None,
            "drift_max": float(gap_N.max()) if watches_drift else None,
        }

    def _pieces(self, batch: Batch, chosen: Sequence[int], micro_batch_tokens: int) -> tuple[list[Piece], LossResult]:
        """The chosen rows as micro-batches, and what of the loss is known before they are computed."""
        rows, table = batch.rows, batch.table
        policy_BT = torch.zeros_like(table.behaviour_BT)
        policy_BT[chosen] = self.algorithm.token_weights(table.mask_BT[chosen], table.sequence_B[chosen])
        policy_BT *= batch.weight_B[:, None]
        weights = TokenWeights(policy_BT, _per_token(batch, chosen))
        places = self.compute.micro_batches([rows[i] for i in chosen], micro_batch_tokens)
        cuts = [[chosen[place] for place in cut] for cut in places]
        if self.algorithm.couples == "sequence" and _cuts_a_sample(rows, cuts):
            passed_BT, whole = self._coupled(batch, chosen, weights)
            return pieces_of(batch, cuts, weights, passed_BT), whole
        return pieces_of(batch, cuts, weights), LossResult(loss=torch.zeros(()), diagnostics={})

    def _coupled(self, batch: Batch, chosen: Sequence[int], weights: TokenWeights) -> tuple[Tensor, LossResult]:
        """For an objective that needs a whole trajectory at once, when one is too long for a micro-batch.

        The loss is a function of the log-probabilities. Its gradient in them is found first, from scores without
        gradient; then each micro-batch passes its part of it on to the weights.

        Returns:
            The gradient [B, T], 0 on rows that are not chosen, and the loss.
        """
        (piece,) = pieces_of(batch, [list(chosen)], weights)
        scores = self.compute.scores(piece.rows)
        reads_reference = "logp_ref_BT" in self.algorithm.needs
        reference_BT = self.compute.reference_logp(piece.rows) if reads_reference else None
        logp_BT = scores.logp_BT.requires_grad_()
        whole = policy_loss(piece, Scores(logp_BT, scores.entropy_BT), self.algorithm, reference_BT)
        (grad_BT,) = torch.autograd.grad(whole.loss, logp_BT)
        passed_BT = torch.zeros_like(batch.table.behaviour_BT)
        passed_BT[list(chosen), : grad_BT.shape[1]] = grad_BT
        return passed_BT, LossResult(loss=whole.loss.detach(), diagnostics=whole.diagnostics)

    def learning_rate(self, update: int) -> float:
        """Learning rate of the update with this number (from 0): linear warm-up, then the schedule, ending at zero."""
        settings = self.settings
        per_step = settings.epochs * settings.updates_per_step
        warmup, total = settings.warmup_steps * per_step, settings.total_steps * per_step
        if update < warmup:
            return settings.lr * (update + 1) / warmup
        done = (update - warmup) / max(total - warmup, 1)
        factor = {
            "constant": 1.0,
            "linear": max(1.0 - done, 0.0),
            "cosine": 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))),
        }[settings.schedule]
        return settings.lr * factor

    def state_dict(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Optimiser tensors by name, and the rest as JSON-ready values."""
        return self.compute.state_dict(), {
            "version": self.version,
            "num_updates": self._num_updates,
            "moving_reward": self._moving_reward,
        }

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave, beside the policy's present weights. Raises CheckpointError when it
        belongs to another model.
        """
        self.compute.load_state_dict(tensors)
        self.version = int(values["version"])
        self._num_updates = int(values["num_updates"])
        self._moving_reward = values["moving_reward"]


def _diagnostics(sums: Mapping[str, Sums]) -> dict[str, float | None]:
    """Means per token; the clipped shares also as one number, and the KL to the reference as ``kl``."""
    means = {name: total.mean() for name, total in sums.items()}
    clipped = [value for name, value in means.items() if name.startswith("clipped_") and value is not None]
    means["clipped_share"] = sum(clipped) if clipped else None
    if "kl_new_ref" in means:
        means["kl"] = means.pop("kl_new_ref")
    return means


def _cut_by_group(samples: Sequence[Sample], parts: int) -> list[set[int]]:
    """Sample indices cut into at most ``parts`` sets of whole groups, in order of appearance."""
    groups = list(dict.fromkeys(s.group for s in samples))
    parts = max(1, min(parts, len(groups)))
    cut = [set(groups[i * len(groups) // parts : (i + 1) * len(groups) // parts]) for i in range(parts)]
    return [{i for i, s in enumerate(samples) if s.group in chosen} for chosen in cut]


def _cuts_a_sample(rows: Sequence[Row], cuts: Sequence[list[int]]) -> bool:
    """Some sample has rows in two micro-batches."""
    return sum(len({rows[i].sample for i in cut}) for cut in cuts) > len({rows[i].sample for cut in cuts for i in cut})


def _critic_metrics(batch: Batch) -> dict[str, float | None]:
    if batch.value_BT is None or batch.credit.return_BT is None:
        return {}
    explained = explained_variance(batch.value_BT, batch.credit.return_BT, batch.table.mask_BT)
    return {"explained_variance": explained}


def _per_token(batch: Batch, chosen: Sequence[int]) -> Tensor:
    """[B, T] the weight of each token in the critic's loss: a mean over the tokens of an update."""
    mask_BT = torch.zeros_like(batch.table.mask_BT)
    mask_BT[chosen] = batch.table.mask_BT[chosen]
    return mask_BT * batch.weight_B[:, None] / mask_BT.sum().clamp(min=1)


def _require_critic(algorithm: Algorithm, settings: LearnerSettings) -> None:
    if algorithm.has_critic and settings.critic is None:
        raise AlgorithmError(
            f"{algorithm.name} compares rewards with what a critic expected, and there is no critic",
            where=f"estimator {algorithm.estimator.name}",
            expected="a critic",
            next_step="set learner.critic.kind=linear, or use an estimator without a critic, such as grpo",
        )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
