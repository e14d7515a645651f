"""The gradient learner: AdamW on a loss that does not depend on how the batch is cut.

Branches are scored packed into a forest, each distinct token once, or padded, one row each: the layout changes the
speed and nothing else. Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from askesis.algorithms import AdvantageReport, Algorithm, LossInputs, RewardBatch, Sums, add_diagnostics, reward_kl
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners.batch import Row, Sample, TokenTable, rows_of
from askesis.learners.packed import PackedScorer
from askesis.learners.padded import PaddedScorer
from askesis.learners.scoring import Scorer
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
    updates_per_step: int = 1
    packed: bool = True
    """Score every distinct token once; False trains each branch on its own."""
    micro_batch_tokens: int = 8192
    temperature: float = 1.0
    """Of the behaviour policy: the learner scores tokens under the distribution that they were drawn from."""
    truncated: bool = False
    """Sampling cut the distribution (top-k, top-p): recorded log-probabilities are not the learner's, so it computes
    them anew.
    """


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
    gap_BT: Tensor
    """|log-probability now - at sampling time|, 0 on padding."""


class GradientLearner:
    """Changes the policy's weights in place; ``version`` counts the calls of :meth:`update`."""

    def __init__(self, policy: Policy, algorithm: Algorithm, settings: LearnerSettings) -> None:
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
        )
        self._scorer = self._make_scorer(policy.model)
        self._reference = self._make_reference() if algorithm.needs & {"logp_ref_BT", "kl_B"} else None

    def update(self, samples: Sequence[Sample]) -> UpdateReport:
        """Learn from judged traces; whole groups only.

        Raises:
            AlgorithmError: no sample, or a gradient that is not finite (the weights are left as they were).
            TemplateError: a trace whose mask selects nothing or everything.
        """
        rows = rows_of(samples)
        table = self._table(rows)
        report = self._advantages(samples, rows, table)
        metrics: dict[str, list[float | None]] = {}
        for number, part in enumerate(_cut_by_group(samples, self.settings.updates_per_step)):
            chosen = [i for i, row in enumerate(rows) if row.sample in part]
            step = self._step(rows, table, chosen, report, first=number == 0)
            for name, value in step.items():
                metrics.setdefault(name, []).append(value)
        self.version += 1
        merged = {name: _mean(values) for name, values in metrics.items()}
        merged["num_groups"] = report.num_groups
        merged["num_zero_variance_groups"] = report.num_zero_variance_groups
        merged["num_singleton_groups"] = report.num_singleton_groups
        return UpdateReport(metrics=merged, advantages=tuple(report.advantage_B.tolist()))

    def gradient_norm(self, samples: Sequence[Sample], *, micro_batch_tokens: int, packed: bool | None = None) -> float:
        """Norm of the gradient on ``samples`` at the present weights, changing nothing. For self-checks.

        The gradient says more than the loss, which is zero on fresh samples whose advantages add up to zero.
        """
        rows = rows_of(samples)
        table = self._table(rows)
        report = self._advantages(samples, rows, table, remember=False)
        scorer = self._scorer if packed is None else self._make_scorer(self.policy.model, packed=packed)
        self._optimizer.zero_grad(set_to_none=True)
        for share in self._shares(scorer, rows, table, range(len(rows)), report, micro_batch_tokens):
            share.to_differentiate.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    @torch.no_grad()
    def score(self, rows: Sequence[Row], *, reference: bool = False, packed: bool | None = None) -> Tensor:
        """[B, T] log-probability of each row's sampled tokens under the present (or the reference) weights; 0 on
        padding.
        """
        scorer = self._scorer if packed is None else self._make_scorer(self.policy.model, packed=packed)
        with nullcontext() if not reference else self._without_adapters():
            if reference and self._reference is not None:
                scorer = self._reference
            parts = [(i, scorer([rows[j] for j in i]).logp_BT) for i in self._cut(scorer, rows)]
        logp_BT = torch.zeros(len(rows), max(len(row.at) for row in rows), device=self.policy.device)
        for indices, part_BT in parts:
            logp_BT[indices, : part_BT.shape[1]] = part_BT
        return logp_BT

    def _table(self, rows: Sequence[Row]) -> TokenTable:
        if not rows:
            raise AlgorithmError("there is nothing to learn from", next_step="give at least one judged trace")
        table = TokenTable.of(rows, self.policy.device)
        return replace(table, behaviour_BT=self.score(rows)) if self.settings.truncated else table

    def _advantages(
        self, samples: Sequence[Sample], rows: Sequence[Row], table: TokenTable, *, remember: bool = True
    ) -> AdvantageReport:
        kl_B = None
        if "kl_B" in self.algorithm.needs:
            reference_BT = self.score(rows, reference=True)
            kl_B = reward_kl(table.behaviour_BT, reference_BT, table.mask_BT, table.sequence_B, len(samples)).cpu()
        report = self.algorithm.advantages(
            RewardBatch(
                reward_B=torch.tensor([s.reward for s in samples], dtype=torch.float32),
                group_B=torch.tensor([s.group for s in samples]),
                kl_B=kl_B,
                moving_reward=self._moving_reward,
            )
        )
        if remember:
            self._moving_reward = report.moving_reward
        return report

    def _step(
        self,
        rows: Sequence[Row],
        table: TokenTable,
        chosen: Sequence[int],
        report: AdvantageReport,
        *,
        first: bool,
    ) -> dict[str, float | None]:
        """One optimiser step on the chosen rows."""
        self._optimizer.zero_grad(set_to_none=True)
        total, gap_sum, gap_max = 0.0, 0.0, 0.0
        diagnostics: list[Mapping[str, Sums]] = []
        for share in self._shares(self._scorer, rows, table, chosen, report, self.settings.micro_batch_tokens):
            share.to_differentiate.backward()
            total += share.loss
            diagnostics.append(share.diagnostics)
            gap_sum += float(share.gap_BT.sum())
            gap_max = max(gap_max, float(share.gap_BT.max()))
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.settings.max_grad_norm)
        if not math.isfinite(float(norm)):
            self._optimizer.zero_grad(set_to_none=True)
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
        self._num_updates += 1
        num_tokens = sum(len(rows[i].at) for i in chosen)
        # Only before the first optimiser step are the learner's weights those that sampled.
        comparable = first and not self.settings.truncated
        return {
            **_diagnostics(add_diagnostics(diagnostics)),
            "loss": total,
            "grad_norm": float(norm),
            "lr": lr,
            "num_trained_tokens": float(num_tokens),
            "drift": gap_sum / num_tokens if comparable else None,
            "drift_max": gap_max if comparable else None,
        }

    def _shares(
        self,
        scorer: Scorer,
        rows: Sequence[Row],
        table: TokenTable,
        chosen: Sequence[int],
        report: AdvantageReport,
        micro_batch_tokens: int,
    ) -> Iterator[_Share]:
        """What each micro-batch of the chosen rows adds to the loss and its gradient."""
        mine = torch.tensor(chosen, device=self.policy.device)
        weight_BT = torch.zeros(table.mask_BT.shape, device=self.policy.device)
        weight_BT[mine] = self.algorithm.token_weights(table.mask_BT[mine], table.sequence_B[mine])
        advantage_B = report.advantage_B.to(self.policy.device)[table.sequence_B]
        for places in scorer.micro_batches([rows[i] for i in chosen], micro_batch_tokens):
            cut = [chosen[place] for place in places]
            scores = scorer([rows[i] for i in cut])
            length = scores.logp_BT.shape[1]
            mask_BT, behaviour_BT = table.mask_BT[cut, :length], table.behaviour_BT[cut, :length]
            result = self.algorithm.loss(
                LossInputs(
                    logp_new_BT=scores.logp_BT,
                    logp_behaviour_BT=behaviour_BT,
                    advantage_BT=advantage_B[cut, None].expand(-1, length),
                    mask_BT=mask_BT,
                    weight_BT=weight_BT[cut, :length],
                    logp_ref_BT=self._reference_scores([rows[i] for i in cut]),
                    sequence_B=table.sequence_B[cut],
                )
            )
            entropy = Sums(total=scores.entropy_BT.sum(), count=mask_BT.sum())
            yield _Share(
                to_differentiate=result.loss,
                loss=float(result.loss.detach()),
                diagnostics={**result.diagnostics, "entropy": entropy},
                gap_BT=(scores.logp_BT.detach() - behaviour_BT).abs() * mask_BT,
            )

    def _reference_scores(self, rows: Sequence[Row]) -> Tensor | None:
        return self.score(rows, reference=True) if "logp_ref_BT" in self.algorithm.needs else None

    def _cut(self, scorer: Scorer, rows: Sequence[Row]) -> Iterator[list[int]]:
        return scorer.micro_batches(rows, self.settings.micro_batch_tokens)

    def _make_scorer(self, model: Any, *, packed: bool | None = None) -> Scorer:
        kind = PackedScorer if (self.settings.packed if packed is None else packed) else PaddedScorer
        return kind(model, temperature=self.settings.temperature)

    def _make_reference(self) -> Scorer | None:
        """The weights as they are now, for the KL penalty. With adapters, the model without them is the reference."""
        if hasattr(self.policy.model, "disable_adapter"):
            return None
        return self._make_scorer(copy.deepcopy(self.policy.model).requires_grad_(False))

    def _without_adapters(self) -> AbstractContextManager[Any]:
        model: Any = self.policy.model
        return nullcontext() if self._reference is not None else model.disable_adapter()

    def learning_rate(self, update: int) -> float:
        """Learning rate of the update with this number (from 0): linear warm-up, then the schedule, ending at zero."""
        settings = self.settings
        per_step = settings.updates_per_step
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
        return tensors, {
            "version": self.version,
            "num_updates": self._num_updates,
            "moving_reward": self._moving_reward,
        }

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave. Raises CheckpointError when it belongs to another model."""
        known = dict(zip(self._names, self._parameters, strict=True))
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
