"""Advantage estimators: ``(RewardBatch, params) -> advantage_B``, one small file per family."""

from askesis.algorithms.estimators.a_nsr import A_NSR
from askesis.algorithms.estimators.gae import GAE
from askesis.algorithms.estimators.gigpo import GIGPO
from askesis.algorithms.estimators.group_relative import DR_GRPO, GRPO, RLOO
from askesis.algorithms.estimators.oases import OASES, OASES_GRPO
from askesis.algorithms.estimators.reinforce import REINFORCE
from askesis.algorithms.estimators.signed import NSR, PSR, W_REINFORCE
from askesis.algorithms.stages import EstimatorStage

__all__ = ["BUILT_IN_ESTIMATORS"]

BUILT_IN_ESTIMATORS: tuple[EstimatorStage, ...] = (
    REINFORCE,
    RLOO,
    GRPO,
    DR_GRPO,
    GIGPO,
    PSR,
    NSR,
    W_REINFORCE,
    A_NSR,
    GAE,
    OASES,
    OASES_GRPO,
)
