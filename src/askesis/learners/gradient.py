"""The gradient learner: AdamW on a loss that does not depend on how the batch is cut.

This path trains each branch as a sequence of its own. It is the oracle that faster paths are tested against.
Shape suffixes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from askesis.algorithms import AdvantageReport, Algorithm, LossInputs, RewardBatch, Sums, add_diagnostics, reward_kl
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners.batch import Padded, Row, Sample, micro_batches, pad, rows_of
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


class _Scores(NamedTuple):
    logp_BT: torch.Tensor
    entropy_BT: torch.Tensor


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
        self._reference = self._make_reference() if algorithm.needs & {"logp_ref_BT", "kl_B"} else None

    def update(self, samples: Sequence[Sample]) -> UpdateReport:
        """Learn from judged traces; whole groups only.

        Raises:
            AlgorithmError: no sample, or a gradient that is not finite (the weights are left as they were).
            TemplateError: a trace whose mask selects nothing or everything.
        """
        rows = rows_of(samples)
        behaviour = self.score(rows) if self.settings.truncated else None
        report = self._advantages(samples, rows)
        parts = _cut_by_group(samples, self.settings.updates_per_step)
        metrics: dict[str, list[float | None]] = {}
        for number, part in enumerate(parts):
            chosen = [i for i, row in enumerate(rows) if row.sample in part]
            step = self._step(rows, chosen, report, behaviour, first=number == 0)
            for name, value in step.items():
                metrics.setdefault(name, []).append(value)
        self.version += 1
        merged = {name: _mean(values) for name, values in metrics.items()}
        merged["num_groups"] = report.num_groups
        merged["num_zero_variance_groups"] = report.num_zero_variance_groups
        merged["num_singleton_groups"] = report.num_singleton_groups
        return UpdateReport(metrics=merged, advantages=tuple(report.advantage_B.tolist()))

    def gradient_norm(self, samples: Sequence[Sample], *, micro_batch_tokens: int) -> float:
        """Norm of the gradient on ``samples`` at the present weights, changing nothing. For self-checks.

        The gradient says more than the loss, which is zero on fresh samples whose advantages add up to zero.
        """
        rows = rows_of(samples)
        report = self._advantages(samples, rows, remember=False)
        self._optimizer.zero_grad(set_to_none=True)
        for loss, _, _ in self._losses(rows, range(len(rows)), report, None, micro_batch_tokens):
            loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    @torch.no_grad()
    def score(self, rows: Sequence[Row], *, reference: bool = False) -> list[torch.Tensor]:
        """Log-probability of each row's masked tokens under the present (or the reference) weights; zeros elsewhere."""
        result: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for indices in micro_batches(rows, self.settings.micro_batch_tokens):
            batch = pad(rows, indices, self.policy.device)
            logp_BT = self._forward(batch, reference=reference).logp_BT
            for place, index in enumerate(indices):
                result[index] = logp_BT[place, : len(rows[index].tokens)].cpu()
        return result

    def _advantages(self, samples: Sequence[Sample], rows: Sequence[Row], *, remember: bool = True) -> AdvantageReport:
        kl_B = None
        if "kl_B" in self.algorithm.needs:
            whole = pad(rows, range(len(rows)), torch.device("cpu"))
            reference_BT = _stack(self.score(rows, reference=True), whole)
            kl_B = reward_kl(whole.behaviour_BT, reference_BT, whole.mask_BT, whole.sample_B, len(samples))
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
        chosen: Sequence[int],
        report: AdvantageReport,
        behaviour: Sequence[torch.Tensor] | None,
        *,
        first: bool,
    ) -> dict[str, float | None]:
        """One optimiser step on the chosen rows."""
        self._optimizer.zero_grad(set_to_none=True)
        total, gap_sum, gap_max = 0.0, 0.0, 0.0
        diagnostics: list[Mapping[str, Sums]] = []
        for loss, parts, gap_BT in self._losses(rows, chosen, report, behaviour, self.settings.micro_batch_tokens):
            loss.backward()
            total += float(loss.detach())
            diagnostics.append(parts)
            gap_sum += float(gap_BT.sum())
            gap_max = max(gap_max, float(gap_BT.max()))
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
        num_tokens = sum(int(rows[i].mask.sum()) for i in chosen)
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

    def _losses(
        self,
        rows: Sequence[Row],
        chosen: Sequence[int],
        report: AdvantageReport,
        behaviour: Sequence[torch.Tensor] | None,
        micro_batch_tokens: int,
    ) -> Any:
        """Yield (loss share, diagnostics, |log-probability gap| [B, T]) of each micro-batch."""
        device = self.policy.device
        mine = [rows[i] for i in chosen]
        weights = self._weights(mine)
        for indices in micro_batches(mine, micro_batch_tokens):
            batch = pad(mine, indices, device)
            scores = self._forward(batch)
            behaviour_BT = batch.behaviour_BT
            if behaviour is not None:
                behaviour_BT = _stack([behaviour[chosen[i]] for i in indices], batch)
            length = batch.ids_BT.shape[1]
            advantage_BT = report.advantage_B.to(device)[batch.sample_B][:, None].expand(-1, length)
            result = self.algorithm.loss(
                LossInputs(
                    logp_new_BT=scores.logp_BT,
                    logp_behaviour_BT=behaviour_BT,
                    advantage_BT=advantage_BT,
                    mask_BT=batch.mask_BT,
                    weight_BT=_stack([weights[i] for i in indices], batch),
                    logp_ref_BT=self._reference_scores(batch),
                    sequence_B=batch.sample_B,
                )
            )
            entropy = Sums(total=scores.entropy_BT.sum(), count=batch.mask_BT.sum())
            gap_BT = (scores.logp_BT.detach() - behaviour_BT).abs() * batch.mask_BT
            yield result.loss, {**result.diagnostics, "entropy": entropy}, gap_BT

    def _weights(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Weight of each token in the loss of these rows: the global denominator, computed once."""
        whole = pad(rows, range(len(rows)), torch.device("cpu"))
        weight_BT = self.algorithm.token_weights(whole.mask_BT, whole.sample_B)
        return [weight_BT[i, : len(row.tokens)] for i, row in enumerate(rows)]

    def _forward(self, batch: Padded, *, reference: bool = False) -> _Scores:
        """Log-probability and entropy at the masked positions, zeros elsewhere. Only those positions are unembedded."""
        first = max(batch.first, 1)
        length = batch.ids_BT.shape[1]
        keep = torch.arange(first - 1, length - 1, device=batch.ids_BT.device)
        model, context = self._model(reference)
        with context:
            logits_BTV = model(input_ids=batch.ids_BT, use_cache=False, logits_to_keep=keep).logits
        mask_BT = batch.mask_BT[:, first:]
        logits_NV = logits_BTV[mask_BT].float() / self.settings.temperature
        logp_NV = logits_NV.log_softmax(-1)
        logp_N = logp_NV.gather(-1, batch.ids_BT[:, first:][mask_BT][:, None])[:, 0]
        with torch.no_grad():
            entropy_N = -(logp_NV.exp() * logp_NV).sum(-1)
        shape = batch.ids_BT.shape
        at = batch.mask_BT.nonzero(as_tuple=True)
        zeros = torch.zeros(shape, device=logits_NV.device)
        return _Scores(zeros.index_put(at, logp_N), zeros.index_put(at, entropy_N))

    @torch.no_grad()
    def _reference_scores(self, batch: Padded) -> torch.Tensor | None:
        return self._forward(batch, reference=True).logp_BT if "logp_ref_BT" in self.algorithm.needs else None

    def _make_reference(self) -> Any:
        """The weights as they are now, for the KL penalty. With adapters, the model without them is the reference."""
        if hasattr(self.policy.model, "disable_adapter"):
            return None
        reference = copy.deepcopy(self.policy.model)
        return reference.requires_grad_(False)

    def _model(self, reference: bool) -> tuple[Any, Any]:
        model: Any = self.policy.model
        if not reference:
            return model, nullcontext()
        if self._reference is None:
            return model, model.disable_adapter()
        return self._reference, nullcontext()

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


def _stack(rows: Sequence[torch.Tensor], like: Padded) -> torch.Tensor:
    out = torch.zeros(like.ids_BT.shape, dtype=torch.float32)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out.to(like.ids_BT.device)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
