"""Reward shapings: ``(RewardBatch, params) -> reward_B``, before the estimator; one small file each."""

from torch import Tensor

from askesis.algorithms.shapings.overlong import OVERLONG
from askesis.algorithms.stages import ShapingStage
from askesis.algorithms.types import RewardBatch

__all__ = ["BUILT_IN_SHAPINGS"]


def _unchanged(batch: RewardBatch) -> Tensor:
    return batch.reward_B


NONE = ShapingStage(name="none", function=_unchanged, summary="the reward as it was judged")

BUILT_IN_SHAPINGS: tuple[ShapingStage, ...] = (NONE, OVERLONG)
