"""Our worlds for TRL's GRPOTrainer, by either of its two doors. Neither imports TRL: it calls us."""

from askesis.environments.adapters.trl.factory import environment_factory, environment_reward
from askesis.environments.adapters.trl.rollouts import rollout_func, rollout_reward

__all__ = ["environment_factory", "environment_reward", "rollout_func", "rollout_reward"]
