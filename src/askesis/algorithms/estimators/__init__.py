"""Advantage estimators: ``(RewardBatch, params) -> advantage_B``, one small file per family."""

from askesis.algorithms.estimators.group_relative import DR_GRPO, GRPO, RLOO
from askesis.algorithms.estimators.reinforce import REINFORCE
from askesis.algorithms.stages import EstimatorStage

__all__ = ["BUILT_IN_ESTIMATORS"]

BUILT_IN_ESTIMATORS: tuple[EstimatorStage, ...] = (REINFORCE, RLOO, GRPO, DR_GRPO)
