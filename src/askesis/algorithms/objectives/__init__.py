"""Objectives: ``(logp_new, logp_behaviour, advantage, mask, params) -> loss per token``, one small file each."""

from askesis.algorithms.objectives.cispo import CISPO
from askesis.algorithms.objectives.gspo import GSPO
from askesis.algorithms.objectives.ppo_clip import PPO_CLIP
from askesis.algorithms.objectives.reinforce import REINFORCE
from askesis.algorithms.objectives.sapo import SAPO
from askesis.algorithms.objectives.vespo import VESPO
from askesis.algorithms.stages import ObjectiveStage

__all__ = ["BUILT_IN_OBJECTIVES"]

BUILT_IN_OBJECTIVES: tuple[ObjectiveStage, ...] = (REINFORCE, PPO_CLIP, GSPO, CISPO, SAPO, VESPO)
