"""Objectives: ``(logp_new, logp_behaviour, advantage, mask, params) -> loss per token``, one small file each."""

from askesis.algorithms.objectives.ppo_clip import PPO_CLIP
from askesis.algorithms.objectives.reinforce import REINFORCE
from askesis.algorithms.stages import ObjectiveStage

__all__ = ["BUILT_IN_OBJECTIVES"]

BUILT_IN_OBJECTIVES: tuple[ObjectiveStage, ...] = (REINFORCE, PPO_CLIP)
