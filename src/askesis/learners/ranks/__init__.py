"""A learner over several processes: the weights, gradients and optimiser lie sharded among ranks."""

from askesis.learners.ranks.learner import RankedLearner

__all__ = ["RankedLearner"]
