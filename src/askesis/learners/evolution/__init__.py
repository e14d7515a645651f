"""Learning without a backward pass: evolution strategies, and ESSAM."""

from askesis.learners.evolution.learner import EvolutionLearner, Population
from askesis.learners.evolution.scores import member_scores
from askesis.learners.evolution.settings import EvolutionSettings

__all__ = ["EvolutionLearner", "EvolutionSettings", "Population", "member_scores"]
