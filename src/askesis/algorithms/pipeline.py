"""An algorithm: rewards to advantages, those to tokens, and log-probabilities to a loss, by named stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from askesis.algorithms.aggregation import Aggregation, Denominators, denominators, token_weights
from askesis.algorithms.checks import check_loss_inputs, check_rewards, check_tokens
from askesis.algorithms.estimators.groups import group_statistics
from askesis.algorithms.estimators.reinforce import next_moving_reward
from askesis.algorithms.kl import KLPenalty, kl_per_token
from askesis.algorithms.objectives.ratio import log_ratio, share
from askesis.algorithms.stages import (
    Coupling,
    CreditStage,
    EstimatorStage,
    ModulatorStage,
    ObjectiveStage,
    ShapingStage,
    Value,
)
from askesis.algorithms.turns import spread_evenly
from askesis.algorithms.types import (
    AdvantageReport,
    CreditReport,
    LossInputs,
    LossResult,
    LossTerms,
    RewardBatch,
    Sums,
    TokenBatch,
)
from askesis.errors import AlgorithmError

__all__ = ["Algorithm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Stages with their parameters. :func:`askesis.algorithms.build` makes one from a name and checks it."""

    name: str
    """The preset it was built from."""
    shaping: ShapingStage
    shaping_params: Mapping[str, Value]
    estimator: EstimatorStage
    estimator_params: Mapping[str, Value]
    modulator: ModulatorStage
    modulator_params: Mapping[str, Value]
    credit_stage: CreditStage
    credit_params: Mapping[str, Value]
    objective: ObjectiveStage
    objective_params: Mapping[str, Value]
    aggregation: Aggregation
    norm_length: int | None
    """Tokens; None unless the aggregation divides by it."""
    kl: KLPenalty
    resamples_constant_groups: bool
    """DAPO's dynamic sampling, for the loop that collects rollouts: groups whose rewards are all equal
    (``AdvantageReport.num_zero_variance_groups``) are thrown away, and others sampled in their place.
    """
    drops_truncated: bool
    """DAPO's overlong filter: a trajectory stopped by its length gets advantage 0. It still counts in the statistics of
    its group and in the denominators of the loss.
    """
    changed: Mapping[str, Value]
    """Keys that were overridden with something else than the preset's value, which is what is kept here."""
    max_weight: float | None = None
    """Every token is weighed by min(new / behaviour, this), without gradient, before an objective that does not allow
    for stale samples itself: truncated importance sampling. None: by nothing.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields that must be given, of RewardBatch, TokenBatch and LossInputs together."""
        return self._reward_needs | self.credit_needs | self.objective.needs | self._loss_kl_needs

    @property
    def credit_needs(self) -> frozenset[str]:
        """Those of TokenBatch, needed by :meth:`credit`."""
        return self.estimator.credit_needs | self.modulator.needs | self.credit_stage.needs

    @property
    def corrects(self) -> bool | None:
        """It allows for samples of older weights; None: that is not known."""
        return True if self.objective_params.get("importance_weighted") is True else self.objective.corrects

    @property
    def couples(self) -> Coupling:
        """Whether a micro-batch given to :meth:`loss` must hold all rows of each of its trajectories."""
        return self.objective.couples

    @property
    def stages(self) -> dict[str, str]:
        """The name of each stage, by its key in a recipe, in the order in which they act."""
        return {
            "shaping": self.shaping.name,
            "estimator": self.estimator.name,
            "modulator": self.modulator.name,
            "credit": self.credit_stage.name,
            "objective": self.objective.name,
            "aggregation": self.aggregation.value,
        }

    @property
    def params(self) -> dict[str, Value]:
        """Every parameter of every stage, resolved."""
        norm = {} if self.norm_length is None else {"norm_length": self.norm_length}
        kl: dict[str, Value] = {
            "kl_beta": self.kl.beta,
            "kl_estimator": self.kl.estimator,
            "kl_placement": self.kl.placement,
        }
        sampling: dict[str, Value] = {
            "dynamic_sampling": self.resamples_constant_groups,
            "drop_truncated": self.drops_truncated,
        }
        before = {**self.shaping_params, **self.estimator_params, **self.modulator_params, **self.credit_params}
        return {**before, **self.objective_params, **norm, **kl, **sampling}

    def advantages(self, batch: RewardBatch) -> AdvantageReport:
        """Advantages of the judged trajectories of a whole batch; a group must not be cut.

        Raises:
            AlgorithmError: the batch is empty, a reward is NaN or infinite, forms differ, or a needed field is missing.
        """
        check_rewards(batch, self._reward_needs)
        acts_B = _acts(batch)
        groups = group_statistics(batch.reward_B[acts_B], batch.group_B[acts_B])
        batch = replace(batch, reward_B=self.shaping.function(batch, **self.shaping_params))
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
        if self.drops_truncated and batch.truncated_B is not None:
            advantage_B = torch.where(batch.truncated_B, 0.0, advantage_B)
        is_single_G = groups.size_G == 1
        return AdvantageReport(
            advantage_B=advantage_B,
            num_groups=len(groups.size_G),
            num_singleton_groups=int(is_single_G.sum()),
            num_zero_variance_groups=int((groups.is_constant_G & ~is_single_G).sum()),
            moving_reward=next_moving_reward(batch.moving_reward, batch.reward_B[acts_B]),
        )

    @torch.no_grad()
    def credit(self, report: AdvantageReport, rewards: RewardBatch, tokens: TokenBatch) -> CreditReport:
        """Spread the advantages over the sampled tokens: estimator, then turn modulator, then token credit.

        Call it once per step, with whole groups, before the first update.

        Args:
            report: what :meth:`advantages` said of ``rewards``.
            rewards: the judged trajectories.
            tokens: their sampled tokens, ``tokens.sequence_B`` naming rows of ``rewards``.

        Raises:
            AlgorithmError: forms do not fit, a needed field is missing, or a value at a sampled token is not finite.
        """
        check_tokens(tokens, self.credit_needs, len(report.advantage_B))
        if self.estimator.spread is None:
            advantage_BT = spread_evenly(report.advantage_B, tokens)
        else:
            advantage_BT = self.estimator.spread(report.advantage_B, rewards, tokens, **self.estimator_params)
        modulated = self.modulator.function(advantage_BT, rewards, tokens, **self.modulator_params)
        credited = self.credit_stage.function(modulated.advantage_BT, rewards, tokens, **self.credit_params)
        advantage_BT = credited.advantage_BT
        if advantage_BT.shape != tokens.mask_BT.shape:
            raise AlgorithmError(
                "stages must give one advantage for each token",
                where=f"estimator {self.estimator.name}, modulator {self.modulator.name}, {self.credit_stage.name}",
                got=list(advantage_BT.shape),
                expected=list(tokens.mask_BT.shape),
            )
        return_BT = self._returns(report, rewards, tokens)
        if self.drops_truncated and rewards.truncated_B is not None:
            dropped_B1 = rewards.truncated_B.to(tokens.mask_BT.device)[tokens.sequence_B][:, None]
            advantage_BT = torch.where(dropped_B1, 0.0, advantage_BT)
            if return_BT is not None and tokens.value_BT is not None:  # a critic is told what it says already
                return_BT = torch.where(dropped_B1, tokens.value_BT, return_BT)
        return CreditReport(
            advantage_BT=torch.where(tokens.mask_BT, advantage_BT, 0.0),
            diagnostics={**modulated.diagnostics, **credited.diagnostics},
            return_BT=None if return_BT is None else torch.where(tokens.mask_BT, return_BT, 0.0),
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
        if self.max_weight is not None:
            ratio_BT = log_ratio(inputs.logp_new_BT, inputs.logp_behaviour_BT, inputs.mask_BT).detach().exp()
            per_token_BT = per_token_BT * ratio_BT.clamp(max=self.max_weight)
            diagnostics["capped"] = share(ratio_BT > self.max_weight, inputs.mask_BT)
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
            **self.stages,
            "params": _plain(self.params),
            "needs": sorted(self.needs),
            "changed": _plain(self.changed),
            **({} if self.max_weight is None else {"max_weight": self.max_weight}),
        }

    def _returns(self, report: AdvantageReport, rewards: RewardBatch, tokens: TokenBatch) -> Tensor | None:
        if self.estimator.returns is None:
            return None
        return self.estimator.returns(report.advantage_B, rewards, tokens, **self.estimator_params)

    @property
    def has_critic(self) -> bool:
        """It compares rewards with what a critic expected, so the learner must have one."""
        return "value_BT" in self.credit_needs

    @property
    def has_states(self) -> bool:
        """It pays for states of an episode, so answers must be drawn from them."""
        return "gain_BT" in self.credit_needs

    @property
    def _loss_kl_needs(self) -> frozenset[str]:
        return frozenset({"logp_ref_BT"} if self.kl.is_in_loss else ())

    @property
    def _reward_needs(self) -> frozenset[str]:
        kl = frozenset({"kl_B"} if self.kl.is_in_reward else ())
        truncated = frozenset({"truncated_B"} if self.drops_truncated else ())
        return self.shaping.needs | self.estimator.needs | kl | truncated

    def _masked_kl(self, logp_new_BT: Tensor, logp_ref_BT: Tensor, mask_BT: Tensor) -> Tensor:
        # Masked before the estimate, not after: the gradient of exp at a NaN is NaN, even when multiplied by 0.
        logp_new_BT = torch.where(mask_BT, logp_new_BT, 0.0)
        return kl_per_token(logp_new_BT, torch.where(mask_BT, logp_ref_BT, 0.0), self.kl.estimator)


def _acts(batch: RewardBatch) -> Tensor:
    """[B] bool: the trajectories, without the answers that were drawn from their states; all rows if there is none."""
    everything_B = torch.ones_like(batch.group_B, dtype=torch.bool)
    if batch.is_answer_B is None or bool(batch.is_answer_B.all()):
        return everything_B
    return ~batch.is_answer_B


def _plain(params: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value.value if isinstance(value, StrEnum) else value for name, value in params.items()}
