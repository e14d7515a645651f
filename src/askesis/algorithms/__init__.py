"""Advantages and losses as pure functions over tensors, joined into named algorithms.

    rewards ── shaping, estimator ──> advantages ── modulator, credit ──> advantage per token
    advantage and log-probabilities ── objective ──> loss per token ── token weights ──> loss

``build("grpo", {"clip_high": 0.28})`` gives an :class:`Algorithm`, whose ``advantages``, ``credit``, ``token_weights``
and ``loss`` are the calls of an update. :mod:`askesis.algorithms.distributions` has the reductions over the vocabulary
that ``credit`` may need, :mod:`askesis.algorithms.off_policy` says how far a batch has grown stale.
"""

from askesis.algorithms.aggregation import Aggregation, Denominators, denominators
from askesis.algorithms.builder import build
from askesis.algorithms.distributions import entropy, hellinger
from askesis.algorithms.kl import reward_kl
from askesis.algorithms.off_policy import off_policy
from askesis.algorithms.pipeline import Algorithm
from askesis.algorithms.presets import PRESETS, Preset
from askesis.algorithms.registry import (
    credit_names,
    estimator_names,
    modulator_names,
    objective_names,
    shaping_names,
)
from askesis.algorithms.stages import (
    Coupling,
    CreditStage,
    EstimatorStage,
    ModulatorStage,
    ObjectiveStage,
    Param,
    ShapingStage,
)
from askesis.algorithms.types import (
    AdvantageReport,
    CreditReport,
    LossInputs,
    LossResult,
    LossTerms,
    RewardBatch,
    Sums,
    TokenBatch,
    add_diagnostics,
)

__all__ = [
    "PRESETS",
    "AdvantageReport",
    "Aggregation",
    "Algorithm",
    "Coupling",
    "CreditReport",
    "CreditStage",
    "Denominators",
    "EstimatorStage",
    "LossInputs",
    "LossResult",
    "LossTerms",
    "ModulatorStage",
    "ObjectiveStage",
    "Param",
    "Preset",
    "RewardBatch",
    "ShapingStage",
    "Sums",
    "TokenBatch",
    "add_diagnostics",
    "build",
    "credit_names",
    "denominators",
    "entropy",
    "estimator_names",
    "hellinger",
    "modulator_names",
    "objective_names",
    "off_policy",
    "reward_kl",
    "shaping_names",
]
