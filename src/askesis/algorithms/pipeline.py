"""An algorithm: rewards to advantages, and log-probabilities to a loss, by named stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.aggregation import Aggregation, Denominators, denominators, token_weights
from askesis.algorithms.checks import check_loss_inputs, check_rewards
from askesis.algorithms.estimators.groups import group_statistics
from askesis.algorithms.estimators.reinforce import next_moving_reward
from askesis.algorithms.kl import KLPenalty, kl_per_token
from askesis.algorithms.stages import EstimatorStage, ObjectiveStage, Value
from askesis.algorithms.types import AdvantageReport, LossInputs, LossResult, LossTerms, RewardBatch, Sums
from askesis.errors import AlgorithmError

__all__ = ["Algorithm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Stages with their parameters. :func:`askesis.algorithms.build` makes one from a name and checks it."""

    name: str
    """The preset it was built from."""
    estimator: EstimatorStage
    estimator_params: Mapping[str, Value]
    objective: ObjectiveStage
    objective_params: Mapping[str, Value]
    aggregation: Aggregation
    norm_length: int | None
    """Tokens; None unless the aggregation divides by it."""
    kl: KLPenalty
    changed: Mapping[str, Value]
    """Keys that were overridden with something else than the preset's value, which is what is kept here."""

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields that must be given: LossInputs' ``logp_ref_BT``, ``sequence_B``, RewardBatch's ``kl_B``."""
        return self.objective.needs | self._loss_kl_needs | self._reward_needs

    @property
    def params(self) -> dict[str, Value]:
        """Every parameter of every stage, resolved."""
        norm = {} if self.norm_length is None else {"norm_length": self.norm_length}
        kl: dict[str, Value] = {
            "kl_beta": self.kl.beta,
            "kl_estimator": self.kl.estimator,
            "kl_placement": self.kl.placement,
        }
        return {**self.estimator_params, **self.objective_params, **norm, **kl}

    def advantages(self, batch: RewardBatch) -> AdvantageReport:
        """Advantages of the judged trajectories of a whole batch; a group must not be cut.

        Raises:
            AlgorithmError: the batch is empty, a reward is NaN or infinite, forms differ, or ``kl_B`` is missing.
        """
        check_rewards(batch, self._reward_needs)
        groups = group_statistics(batch.reward_B, batch.group_B)
        if self.kl.is_in_reward and batch.kl_B is not None:
            batch = replace(batch, reward_B=batch.reward_B - self.kl.beta * batch.kl_B)
        advantage_B = self.estimator.function(batch, **self.estimator_params)
        if advantage_B.shape != batch.reward_B.shape:
            raise AlgorithmError(
                "an estimator must give one advantage for each trajectory",
                where=f"estimator {self.estimator.name}",
                got=list(advantage_B.shape),
                expected=list(batch.reward_B.shape),
            )
        is_single_G = groups.size_G == 1
        return AdvantageReport(
            advantage_B=advantage_B,
            num_groups=len(groups.size_G),
            num_singleton_groups=int(is_single_G.sum()),
            num_zero_variance_groups=int((groups.is_constant_G & ~is_single_G).sum()),
            moving_reward=next_moving_reward(batch.moving_reward, batch.reward_B),
        )

    def token_weights(self, mask_BT: Tensor, sequence_B: Tensor, *, totals: Denominators | None = None) -> Tensor:
        """[B, T] float32: what each token counts in the loss. Compute it once, over the whole batch of an update.

        ``totals`` is for a batch spread over ranks: the sum of every rank's
        :func:`~askesis.algorithms.aggregation.denominators`. Without it, the rows given here are the batch.
        """
        if totals is None:
            totals = denominators(mask_BT, sequence_B)
        return token_weights(mask_BT, sequence_B, self.aggregation, denominators=totals, norm_length=self.norm_length)

    def loss(self, inputs: LossInputs) -> LossResult:
        """A micro-batch's share of the loss; the shares of any cut of a batch add up to the same loss and gradient.

        An empty mask gives loss 0 with gradient 0. Waits for the device once, to look for NaN.

        Raises:
            AlgorithmError: forms do not fit, a needed field is missing, or a value at a sampled token is not finite.
        """
        check_loss_inputs(inputs, self.objective.needs | self._loss_kl_needs)
        terms: LossTerms = self.objective.function(
            inputs.logp_new_BT,
            inputs.logp_behaviour_BT,
            inputs.advantage_BT,
            inputs.mask_BT,
            **{name: getattr(inputs, name) for name in self.objective.needs},
            **self.objective_params,
        )
        per_token_BT, diagnostics = terms.per_token_BT, dict(terms.diagnostics)
        if per_token_BT.shape != inputs.mask_BT.shape:
            raise AlgorithmError(
                "an objective must give one loss for each token",
                where=f"objective {self.objective.name}",
                got=list(per_token_BT.shape),
                expected=list(inputs.mask_BT.shape),
            )
        if self.kl.is_in_loss and inputs.logp_ref_BT is not None:
            kl_BT = self._masked_kl(inputs.logp_new_BT, inputs.logp_ref_BT, inputs.mask_BT)
            per_token_BT = per_token_BT + self.kl.beta * kl_BT
            diagnostics["kl_new_ref"] = Sums(total=kl_BT.sum().detach(), count=inputs.mask_BT.sum())
        weight_BT = torch.where(inputs.mask_BT, inputs.weight_BT.detach(), 0.0)
        return LossResult(loss=(per_token_BT * weight_BT).sum(), diagnostics=diagnostics)

    def describe(self) -> dict[str, object]:
        """The resolved stages and parameters, JSON-ready; ``changed`` maps overridden keys to the preset's value."""
        return {
            "algorithm": self.name,
            "estimator": self.estimator.name,
            "objective": self.objective.name,
            "aggregation": self.aggregation.value,
            "params": _plain(self.params),
            "needs": sorted(self.needs),
            "changed": _plain(self.changed),
        }

    @property
    def _loss_kl_needs(self) -> frozenset[str]:
        return frozenset({"logp_ref_BT"} if self.kl.is_in_loss else ())

    @property
    def _reward_needs(self) -> frozenset[str]:
        return frozenset({"kl_B"} if self.kl.is_in_reward else ())

    def _masked_kl(self, logp_new_BT: Tensor, logp_ref_BT: Tensor, mask_BT: Tensor) -> Tensor:
        # Masked before the estimate, not after: the gradient of exp at a NaN is NaN, even when multiplied by 0.
        logp_new_BT = torch.where(mask_BT, logp_new_BT, 0.0)
        return kl_per_token(logp_new_BT, torch.where(mask_BT, logp_ref_BT, 0.0), self.kl.estimator)


def _plain(params: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in params.items()}
