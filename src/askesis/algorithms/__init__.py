"""Advantages and losses as pure functions over tensors, joined into named algorithms.

    rewards, groups ── estimator ──> advantages ── objective ──> loss per token ── token weights ──> loss

``build("grpo", {"clip_high": 0.28})`` gives an :class:`Algorithm`, whose ``advantages``, ``token_weights`` and ``loss``
are the three calls of an update.
"""

from askesis.algorithms.aggregation import Aggregation, Denominators, denominators
from askesis.algorithms.builder import build
from askesis.algorithms.kl import reward_kl
from askesis.algorithms.pipeline import Algorithm
from askesis.algorithms.presets import PRESETS, Preset
from askesis.algorithms.registry import estimator_names, objective_names
from askesis.algorithms.stages import EstimatorStage, ObjectiveStage, Param
from askesis.algorithms.types import (
    AdvantageReport,
    LossInputs,
    LossResult,
    LossTerms,
    RewardBatch,
    Sums,
    add_diagnostics,
)

__all__ = [
    "PRESETS",
    "AdvantageReport",
    "Aggregation",
    "Algorithm",
    "Denominators",
    "EstimatorStage",
    "LossInputs",
    "LossResult",
    "LossTerms",
    "ObjectiveStage",
    "Param",
    "Preset",
    "RewardBatch",
    "Sums",
    "add_diagnostics",
    "build",
    "denominators",
    "estimator_names",
    "objective_names",
    "reward_kl",
]
