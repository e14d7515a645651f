"""Learning without a backward pass: evolution strategies, and ESSAM."""

from askesis.learners.evolution.learner import Candidate, EvolutionLearner, Population
from askesis.learners.evolution.scores import member_scores
from askesis.learners.evolution.settings import EvolutionSettings

__all__ = ["Candidate", "EvolutionLearner", "EvolutionSettings", "Population", "member_scores"]
