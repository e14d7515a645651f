"""The gradient learner: AdamW on a loss that does not depend on how the batch is cut.

Branches are scored packed into a forest, each distinct token once, or padded, one row each: the layout changes the
speed and nothing else. Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from askesis.algorithms import Algorithm, LossInputs, LossResult, Sums, add_diagnostics, off_policy
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners.batch import Row, Sample
from askesis.learners.critic import Critic, CriticSettings, explained_variance, value_loss
from askesis.learners.models import Models
from askesis.learners.preparation import Batch, prepare
from askesis.learners.scoring import Scores
from askesis.learners.workers import Workers
from askesis.policy.loading import Policy

__all__ = ["GradientLearner", "LearnerSettings", "UpdateReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSettings:
    """Optimiser constants; see :class:`askesis.recipe.TrainingSection` for units and reasons."""

    lr: float
    schedule: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 1
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    """Passes over each batch."""
    updates_per_step: int = 1
    """Optimiser steps in each pass; the batch is cut into this many parts, by group."""
    packed: bool = True
    """Score every distinct token once; False trains each branch on its own."""
    micro_batch_tokens: int = 2048
    threads: int = 1
    """Micro-batches computed side by side, on a core each, that share ``micro_batch_tokens``. It changes low-order bits
    only.
    """
    temperature: float = 1.0
    """Of the behaviour policy: the learner scores tokens under the distribution that they were drawn from."""
    truncated: bool = False
    """Sampling cut the distribution (top-k, top-p): recorded log-probabilities are not the learner's, so it computes
    them anew.
    """
    critic: CriticSettings | None = None
    """For algorithms that compare rewards with what was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """What one call of :meth:`GradientLearner.update` did. ``metrics`` maps a name to a number; None means not
    computed.
    """

    metrics: Mapping[str, float | None]
    advantages: tuple[float, ...]
    """One per sample, in order."""


class _Share(NamedTuple):
    """What one micro-batch adds."""

    to_differentiate: Tensor
    """[] whose gradients, over all micro-batches, add up to that of the loss."""
    loss: float
    diagnostics: Mapping[str, Sums]
    cut: list[int]
    """Rows of the micro-batch."""
    logp_BT: Tensor
    """Their scores, without gradient."""


_Job = Callable[[], _Share]


class GradientLearner:
    """Changes the policy's weights in place; ``version`` counts the calls of :meth:`update`."""

    def __init__(self, policy: Policy, algorithm: Algorithm, settings: LearnerSettings) -> None:
        """Raises AlgorithmError for an algorithm that needs a critic without one."""
        _require_critic(algorithm, settings)
        self.policy = policy
        self.algorithm = algorithm
        self.settings = settings
        self.version = 0
        self._num_updates = 0
        self._moving_reward: float | None = None
        self._names = [name for name, _ in policy.trainable()]
        self._parameters = [parameter for _, parameter in policy.trainable()]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        betas = (settings.beta1, settings.beta2)
        self.critic = None if settings.critic is None else Critic(policy.model, settings.critic, betas=betas)
        self._differentiated = [*self._parameters, *(self.critic.parameters if self.critic else ())]
        self._models = Models(
            policy,
            packed=settings.packed,
            temperature=settings.temperature,
            micro_batch_tokens=settings.micro_batch_tokens,
            has_reference=bool(algorithm.needs & {"logp_ref_BT", "kl_B", "hellinger_BT"}),
            head=self.critic.head if self.critic else None,
        )
        # Others switch the model's own attention, or its adapters, while they compute.
        self._workers = Workers(settings.threads if self._models.scorer.is_thread_safe else 1)

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
        self._zero_grad()
        self._accumulate(self._jobs(batch, range(len(batch.rows)), micro_batch_tokens))
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._differentiated if p.grad is not None])
        self._zero_grad()
        return float(norm)

    def score(self, rows: Sequence[Row], *, packed: bool | None = None) -> Tensor:
        """[B, T] log-probability of each row's sampled tokens under the present weights; 0 on padding. ``packed``
        chooses another layout than the learner's.
        """
        return self._models.scores(rows, packed=packed).logp_BT

    def _prepare(self, samples: Sequence[Sample]) -> Batch:
        return prepare(
            samples,
            self.algorithm,
            self._models,
            self.policy.device,
            progress=min(self.version / self.settings.total_steps, 1.0),
            moving_reward=self._moving_reward,
            rescore=self.settings.truncated,
        )

    def _step(self, batch: Batch, chosen: Sequence[int], *, watches_drift: bool) -> dict[str, float | None]:
        """One optimiser step on the chosen rows."""
        self._zero_grad()
        shares = self._accumulate(self._jobs(batch, chosen, self.settings.micro_batch_tokens))
        logp_BT = torch.zeros_like(batch.table.behaviour_BT)
        for share in shares:
            logp_BT[share.cut, : share.logp_BT.shape[1]] = share.logp_BT
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.settings.max_grad_norm)
        if not math.isfinite(float(norm)):
            self._zero_grad()
            raise AlgorithmError(
                "the gradient is not finite; this optimiser step was not made",
                where=f"update {self._num_updates}",
                got=float(norm),
                next_step="start a new run with a lower training.lr; this one can be looked at with `askesis report`",
            )
        lr = self.learning_rate(self._num_updates)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        if self.critic is not None:
            self.critic.step(lr / self.settings.lr, max_grad_norm=self.settings.max_grad_norm)
        self._num_updates += 1
        table = batch.table
        mask_BT, sequence_B = table.mask_BT[chosen], table.sequence_B[chosen]
        log_ratio_BT = logp_BT[chosen] - table.behaviour_BT[chosen]
        gap_N = log_ratio_BT[mask_BT & (table.version_BT[chosen] == self.version)].abs()
        watches_drift = watches_drift and len(gap_N) > 0
        return {
            **_diagnostics(add_diagnostics(share.diagnostics for share in shares)),
            **off_policy(log_ratio_BT, mask_BT, sequence_B),
            "loss": sum(share.loss for share in shares),
            "grad_norm": float(norm),
            "lr": lr,
            "num_trained_tokens": float(mask_BT.sum()),
            "drift": float(gap_N.mean()) if watches_drift else None,
            "drift_max": float(gap_N.max()) if watches_drift else None,
        }

    def _accumulate(self, jobs: Sequence[_Job]) -> list[_Share]:
        """Do the jobs and add their gradients up, in order whichever is done first; the shares without their graphs."""

        def differentiate(job: _Job) -> tuple[_Share, tuple[Tensor | None, ...]]:
            share = job()
            grads = torch.autograd.grad(share.to_differentiate, self._differentiated, allow_unused=True)
            return share._replace(to_differentiate=share.to_differentiate.detach()), grads

        shares = []
        for share, grads in self._workers.map(differentiate, jobs):
            shares.append(share)
            for parameter, grad in zip(self._differentiated, grads, strict=True):
                if grad is not None and parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter).copy_(grad)  # fused AdamW wants the parameter's layout
                elif grad is not None and parameter.grad is not None:
                    parameter.grad.add_(grad)
        return shares

    def _jobs(self, batch: Batch, chosen: Sequence[int], micro_batch_tokens: int) -> list[_Job]:
        """One for each micro-batch of the chosen rows: it computes what they add to the loss and its gradient."""
        rows, table = batch.rows, batch.table
        weight_BT = torch.zeros_like(table.behaviour_BT)
        weight_BT[chosen] = self.algorithm.token_weights(table.mask_BT[chosen], table.sequence_B[chosen])
        weight_BT *= batch.weight_B[:, None]
        value_weight_BT = _per_token(batch, chosen)
        mine = [rows[i] for i in chosen]
        threads = self._workers.threads
        places = self._models.scorer.micro_batches(mine, max(micro_batch_tokens // threads, 1), at_least=threads)
        cuts = [[chosen[place] for place in cut] for cut in places]
        if self.algorithm.couples == "sequence" and _cuts_a_sample(rows, cuts):
            return self._coupled_jobs(batch, chosen, cuts, weight_BT, value_weight_BT)

        def share(cut: list[int]) -> _Share:
            scores = self._models.scorer([rows[i] for i in cut])
            result = self._loss(batch, cut, scores, weight_BT)
            value = self._value_loss(batch, cut, scores, value_weight_BT)
            return _Share(
                to_differentiate=result.loss + value.loss,
                loss=float(result.loss.detach()),
                diagnostics={**result.diagnostics, **value.diagnostics},
                cut=cut,
                logp_BT=scores.logp_BT.detach(),
            )

        return [partial(share, cut) for cut in cuts]

    def _coupled_jobs(
        self,
        batch: Batch,
        chosen: Sequence[int],
        cuts: Sequence[list[int]],
        weight_BT: Tensor,
        value_weight_BT: Tensor,
    ) -> list[_Job]:
        """The same for an objective that needs a whole trajectory at once, when one is too long for a micro-batch.

        The loss is a function of the log-probabilities. Its gradient in them is found first, from scores without
        gradient; then each micro-batch passes its part of it on to the weights.
        """
        scores = self._models.scores([batch.rows[i] for i in chosen])
        logp_BT = scores.logp_BT.requires_grad_()
        result = self._loss(batch, list(chosen), Scores(logp_BT, scores.entropy_BT), weight_BT)
        (grad_BT,) = torch.autograd.grad(result.loss, logp_BT)
        place_of = {row: place for place, row in enumerate(chosen)}

        def share(cut: list[int], is_first: bool) -> _Share:
            part = self._models.scorer([batch.rows[i] for i in cut])
            part_BT = part.logp_BT
            passed_BT = grad_BT[[place_of[i] for i in cut], : part_BT.shape[1]]
            value = self._value_loss(batch, cut, part, value_weight_BT)
            return _Share(
                to_differentiate=(part_BT * passed_BT).sum() + value.loss,
                loss=float(result.loss.detach()) if is_first else 0.0,
                diagnostics={**(result.diagnostics if is_first else {}), **value.diagnostics},
                cut=cut,
                logp_BT=part_BT.detach(),
            )

        return [partial(share, cut, number == 0) for number, cut in enumerate(cuts)]

    def _loss(self, batch: Batch, cut: list[int], scores: Scores, weight_BT: Tensor) -> LossResult:
        """Loss of the rows in ``cut``, whose scores are given."""
        table, length = batch.table, scores.logp_BT.shape[1]
        needs_reference = "logp_ref_BT" in self.algorithm.needs
        mask_BT = table.mask_BT[cut, :length]
        result = self.algorithm.loss(
            LossInputs(
                logp_new_BT=scores.logp_BT,
                logp_behaviour_BT=table.behaviour_BT[cut, :length],
                advantage_BT=batch.credit.advantage_BT[cut, :length],
                mask_BT=mask_BT,
                weight_BT=weight_BT[cut, :length],
                logp_ref_BT=self._models.reference_logp([batch.rows[i] for i in cut]) if needs_reference else None,
                sequence_B=table.sequence_B[cut],
            )
        )
        entropy = Sums(total=scores.entropy_BT.sum(), count=mask_BT.sum())
        return LossResult(loss=result.loss, diagnostics={**result.diagnostics, "entropy": entropy})

    def _value_loss(self, batch: Batch, cut: list[int], scores: Scores, weight_BT: Tensor) -> LossResult:
        """The critic's share of the loss, on the rows in ``cut``; 0 without a critic."""
        return_BT, length = batch.credit.return_BT, scores.logp_BT.shape[1]
        if self.critic is None or scores.value_BT is None or return_BT is None or batch.value_BT is None:
            return LossResult(loss=scores.logp_BT.new_zeros(()), diagnostics={})
        mask_BT, target_BT = batch.table.mask_BT[cut, :length], return_BT[cut, :length]
        old_BT = batch.value_BT[cut, :length]
        loss_BT = value_loss(scores.value_BT, old_BT, target_BT, clip=self.critic.settings.clip)
        loss_BT = torch.where(mask_BT, loss_BT, 0.0)
        count = mask_BT.sum()
        return LossResult(
            loss=(loss_BT * weight_BT[cut, :length]).sum(),
            diagnostics={
                "value_loss": Sums(total=loss_BT.detach().sum(), count=count),
                "value_mean": Sums(total=scores.value_BT.detach().sum(), count=count),
            },
        )

    def _zero_grad(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        if self.critic is not None:
            self.critic.zero_grad()

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
        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value.detach().clone().contiguous()
        if self.critic is not None:
            tensors |= self.critic.state_dict()
        return tensors, {
            "version": self.version,
            "num_updates": self._num_updates,
            "moving_reward": self._moving_reward,
        }

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave. Raises CheckpointError when it belongs to another model."""
        known = dict(zip(self._names, self._parameters, strict=True))
        if self.critic is not None:
            self.critic.load_state_dict(tensors)
            tensors = {key: tensor for key, tensor in tensors.items() if not Critic.is_own(key)}
        for key in tensors:
            if key.partition("/")[2] not in known:
                raise CheckpointError("the optimiser's state belongs to another model", got=key)
        for name, parameter in known.items():
            state = {key.partition("/")[0]: t for key, t in tensors.items() if key.partition("/")[2] == name}
            if state:
                self._optimizer.state[parameter] = {
                    key: t.clone() if key == "step" else t.to(parameter.device, copy=True) for key, t in state.items()
                }
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
